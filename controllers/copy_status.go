package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// shownCopies is how many pods the condition names.
	shownCopies = 5
	// settleIn is how long after the start no licence is said to be free of copies of which it was said before: until
	// then not all pods have been compared.
	settleIn = 30 * time.Second
)

// CopyStatusReconciler keeps the condition CopiesDetected of licences: True while pods run copies of their images, False
// where none does and the images are known.
type CopyStatusReconciler struct {
	// Client reads from the cache and writes status.
	Client client.Client
	// Tracker knows the pods, Index which licences' images are known.
	Tracker *CopyTracker
	Index   CopyIndex
	// Clock tells the time.
	Clock clock.PassiveClock

	writes  ownWrites
	mu      sync.Mutex
	loaded  map[string]bool
	started time.Time
}

// SetupWithManager registers the controller: for licences, and for what changes about their copies.
func (r *CopyStatusReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.loaded = map[string]bool{}
	var add func(license string)
	r.Index.Subscribe(func(license string) {
		r.mu.Lock()
		known := r.loaded[license]
		r.loaded[license] = true
		tell := add
		r.mu.Unlock()
		if tell != nil && !known {
			tell(license)
		}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("copystatus").
		For(&v1alpha1.ModelLicense{}, builder.WithPredicates(specUpdates)).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.started = r.Clock.Now()
			add = func(license string) {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKey{Name: license}})
			}
			r.Tracker.Subscribe(add)
			return nil
		})).
		Complete(r)
}

// Reconcile brings the condition of one licence up to date.
func (r *CopyStatusReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var license v1alpha1.ModelLicense
	if err := r.Client.Get(ctx, req.NamespacedName, &license); err != nil {
		r.writes.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.writes.behind(&license) {
		return ctrl.Result{RequeueAfter: retryBehind}, nil
	}
	before := meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionCopiesDetected)
	pods := r.Tracker.Copies(license.Name)
	if len(pods) == 0 {
		r.mu.Lock()
		loaded, wait := r.loaded[license.Name], settleIn-r.Clock.Since(r.started)
		r.mu.Unlock()
		if before == nil && !loaded {
			return ctrl.Result{}, nil
		}
		if before != nil && before.Status == "True" && wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	status := *license.Status.DeepCopy()
	if len(pods) > 0 {
		setCondition(&status.Conditions, license.Generation, v1alpha1.ConditionCopiesDetected, true, v1alpha1.ReasonCopyDetected, copiesMessage(pods))
	} else {
		setCondition(&status.Conditions, license.Generation, v1alpha1.ConditionCopiesDetected, false, v1alpha1.ReasonNoCopies,
			"no running pod is known to run a copy")
	}
	if equality.Semantic.DeepEqual(status, license.Status) {
		return ctrl.Result{}, nil
	}
	if err := applyLicenseStatus(ctx, r.Client, &license, ownerCopies, status); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.writes.wrote(&license)
	return ctrl.Result{}, nil
}

func copiesMessage(pods []PodRef) string {
	names := make([]string, 0, shownCopies)
	for _, pod := range pods[:min(len(pods), shownCopies)] {
		names = append(names, pod.String())
	}
	message := fmt.Sprintf("%d pods run unlicensed copies: %s", len(pods), strings.Join(names, ", "))
	if len(pods) == 1 {
		message = "1 pod runs an unlicensed copy: " + names[0]
	}
	if more := len(pods) - len(names); more > 0 {
		message += fmt.Sprintf(" and %d more", more)
	}
	return message
}
