package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// DistributionSettle is how long changes of nodes are gathered, in production, before licences are told of them.
const DistributionSettle = 10 * time.Second

// DistributionReconciler keeps status.distribution of all licences, in one go: each node and each name of an image is
// looked at once for all of them.
type DistributionReconciler struct {
	// Client reads from the cache, of nodes what TrimNode leaves, and applies its part of the status.
	Client client.Client
	// Settle is how long changes are gathered.
	Settle time.Duration
}

// SetupWithManager registers the controller: for nodes whose images change, and licences that change which are theirs.
func (r *DistributionReconciler) SetupWithManager(mgr ctrl.Manager) error {
	later := func(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		queue.AddAfter(reconcile.Request{NamespacedName: client.ObjectKey{Name: "all"}}, r.Settle)
	}
	onChange := func(unchanged func(event.UpdateEvent) bool) handler.Funcs {
		return handler.Funcs{
			CreateFunc: func(_ context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				later(q)
			},
			DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				later(q)
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				if !unchanged(e) {
					later(q)
				}
			},
		}
	}
	return ctrl.NewControllerManagedBy(mgr).Named("distribution").
		Watches(&corev1.Node{}, onChange(func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*corev1.Node)
			after, ok2 := e.ObjectNew.(*corev1.Node)
			return ok1 && ok2 && sameImageNames(before, after)
		})).
		Watches(&v1alpha1.ModelLicense{}, onChange(func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*v1alpha1.ModelLicense)
			after, ok2 := e.ObjectNew.(*v1alpha1.ModelLicense)
			return ok1 && ok2 && before.Generation == after.Generation && equality.Semantic.DeepEqual(before.Status.Images, after.Status.Images)
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(r)
}

// Reconcile brings the distribution of every licence up to date. A licence that cannot be written holds up no other.
func (r *DistributionReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var licenses v1alpha1.ModelLicenseList
	if err := r.Client.List(ctx, &licenses, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing licences: %w", err)
	}
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing nodes: %w", err)
	}
	var errs []error
	for i, found := range distribute(licenses.Items, nodes.Items) {
		license := &licenses.Items[i]
		if license.Status.Distribution != nil && equality.Semantic.DeepEqual(*license.Status.Distribution, found) {
			continue
		}
		err := applyLicenseStatus(ctx, r.Client, license, ownerDistribution, v1alpha1.ModelLicenseStatus{Distribution: &found})
		if err := client.IgnoreNotFound(err); err != nil {
			errs = append(errs, err)
		}
	}
	return ctrl.Result{}, errors.Join(errs...)
}
