package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// GrantReconciler keeps the status of ModelGrants and writes their changes into the audit log.
type GrantReconciler struct {
	// Client reads from the cache and writes status.
	Client client.Client
	// Audit gets an entry for each change of a grant's spec.
	Audit AuditLog
	// Events gets an Event for each change of readiness.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock

	history history
}

// SetupWithManager registers the controller: for grants, their licences, and the labels of their namespaces.
func (r *GrantReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ModelGrant{}, indexGrantLicense, indexer(func(g *v1alpha1.ModelGrant) []string {
		return []string{g.Spec.LicenseName}
	}))
	if err != nil {
		return fmt.Errorf("indexing grants by licence: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).Named("modelgrant").
		For(&v1alpha1.ModelGrant{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.ModelLicense{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.grants(ctx, client.MatchingFields{indexGrantLicense: o.GetName()})
		}), builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, licenseTurned))).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.grants(ctx, client.InNamespace(o.GetName()))
		}), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: objectWorkers}).
		Complete(r)
}

// licenseTurned lets a licence's update pass if its readiness has another reason now: it has begun or ended. Its grants
// need no timers of their own then, of which there would be as many as grants.
var licenseTurned = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.ModelLicense)
		after, ok2 := e.ObjectNew.(*v1alpha1.ModelLicense)
		return !ok1 || !ok2 || readyChanged(before.Status.Conditions, after.Status.Conditions)
	},
	CreateFunc:  func(event.CreateEvent) bool { return false },
	DeleteFunc:  func(event.DeleteEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

func (r *GrantReconciler) grants(ctx context.Context, of client.ListOption) []reconcile.Request {
	var grants v1alpha1.ModelGrantList
	if err := r.Client.List(ctx, &grants, of, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the grants that a change concerns")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(grants.Items))
	for i := range grants.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&grants.Items[i])})
	}
	return requests
}

// Reconcile brings the status of one grant up to date.
func (r *GrantReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var grant v1alpha1.ModelGrant
	if err := r.Client.Get(ctx, req.NamespacedName, &grant); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{}, r.history.gone(ctx, r.Audit, req.NamespacedName, grantEntry)
	}
	now, err := grantIncarnation(&grant)
	if err != nil {
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	if err := r.history.seen(ctx, r.Audit, now, grant.Status.ObservedGeneration, grantEntry); err != nil {
		return ctrl.Result{}, err
	}

	license := &v1alpha1.ModelLicense{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: grant.Spec.LicenseName}, license); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("reading licence %s: %w", grant.Spec.LicenseName, err)
		}
		license = nil
	}
	var namespace corev1.Namespace
	if err := r.Client.Get(ctx, client.ObjectKey{Name: grant.Namespace}, &namespace); err != nil {
		return ctrl.Result{}, fmt.Errorf("reading namespace %s: %w", grant.Namespace, err)
	}

	status := grantStatus(&grant, license, entitlement.DecideGrant(&grant, license, namespace.Labels, r.Clock.Now()))
	if equality.Semantic.DeepEqual(status, grant.Status) {
		return ctrl.Result{}, nil
	}
	changed := readyChanged(grant.Status.Conditions, status.Conditions)
	grant.Status = status
	if err := r.Client.Status().Update(ctx, &grant); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the status of grant %s: %w", req.NamespacedName, err)
	}
	if changed {
		readinessEvent(r.Events, &grant, status.Conditions)
	}
	return ctrl.Result{}, nil
}

// grantStatus computes the status from the verdict. A grant whose licence has not begun waits by itself; any other
// that does not count waits for somebody.
func grantStatus(g *v1alpha1.ModelGrant, l *v1alpha1.ModelLicense, v entitlement.GrantVerdict) v1alpha1.ModelGrantStatus {
	status := *g.Status.DeepCopy()
	status.ObservedGeneration = g.Generation
	status.Expires = nil
	if l != nil {
		status.Expires = l.Spec.Terms.NotAfter.DeepCopy()
	}
	setReadiness(&status.Conditions, g.Generation, v.Reason == v1alpha1.ReasonReady, v.Reason == v1alpha1.ReasonNotYetValid, v.Reason, v.Message)
	return status
}
