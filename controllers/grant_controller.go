package controllers

import (
	"context"
	"fmt"
	"time"

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

	history   history
	writes    ownWrites
	byLicense grantIndex
}

// SetupWithManager registers the controller: for grants, their licences, and the labels of their namespaces.
func (r *GrantReconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	own := &ownObjects[*v1alpha1.ModelGrant]{
		history: &r.history, writes: &r.writes, describe: grantIncarnation, noted: r.byLicense.note,
		observed: func(g *v1alpha1.ModelGrant) int64 { return g.Status.ObservedGeneration },
	}
	return ctrl.NewControllerManagedBy(mgr).Named("modelgrant").
		Watches(&v1alpha1.ModelGrant{}, own.handler()).
		Watches(&v1alpha1.ModelLicense{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return r.byLicense.requests(o.GetName())
		}), builder.WithPredicates(predicate.Or[client.Object](specUpdates, licenseTurned))).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.grants(ctx, client.InNamespace(o.GetName()))
		}), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: objectWorkers}).
		Complete(r)
}

// licenseTurned lets a licence's update pass if its readiness has another reason now, or how near its end is: it has begun
// or ended, or is about to end. Its grants need no timers then, of which there would be as many as grants, unless they have
// times of their own.
var licenseTurned = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.ModelLicense)
		after, ok2 := e.ObjectNew.(*v1alpha1.ModelLicense)
		return !ok1 || !ok2 || readyChanged(before.Status.Conditions, after.Status.Conditions) ||
			expiringReason(before.Status.Conditions) != expiringReason(after.Status.Conditions)
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
		r.writes.forget(req.NamespacedName)
		return ctrl.Result{}, r.history.deleted(ctx, r.Audit, req.NamespacedName, grantEntry)
	}
	now, err := grantIncarnation(&grant)
	if err != nil {
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	if err := r.history.seen(ctx, r.Audit, now, grant.Status.ObservedGeneration, grantEntry); err != nil {
		return ctrl.Result{}, err
	}
	if r.writes.behind(&grant) {
		return ctrl.Result{RequeueAfter: retryBehind}, nil
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

	at := r.Clock.Now()
	status, until := grantStatus(&grant, license, entitlement.DecideGrant(&grant, license, namespace.Labels, at), at)
	result := ctrl.Result{}
	if !until.IsZero() {
		result.RequeueAfter = until.Sub(at)
	}
	if equality.Semantic.DeepEqual(status, grant.Status) {
		return result, nil
	}
	changed, expiring := readyChanged(grant.Status.Conditions, status.Conditions), expiryChanged(grant.Status.Conditions, status.Conditions)
	grant.Status = status
	if err := r.Client.Status().Update(ctx, &grant); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the status of grant %s: %w", req.NamespacedName, err)
	}
	r.writes.wrote(&grant)
	if changed {
		readinessEvent(r.Events, &grant, status.Conditions)
	}
	if expiring {
		expiryEvent(r.Events, &grant, status.Conditions)
	}
	return result, nil
}

// grantStatus computes the status from the verdict, and when it changes by itself: zero where it does not, or where the
// licence's status does at the same time, on which the grant is looked at again. A grant that has not begun, or whose
// licence has not, waits by itself; any other that does not count waits for somebody.
func grantStatus(g *v1alpha1.ModelGrant, l *v1alpha1.ModelLicense, v entitlement.GrantVerdict, now time.Time) (v1alpha1.ModelGrantStatus, time.Time) {
	status := *g.Status.DeepCopy()
	status.ObservedGeneration = g.Generation
	waits := v.Reason == v1alpha1.ReasonNotYetValid || v.Reason == v1alpha1.ReasonGrantNotYetValid
	setReadiness(&status.Conditions, g.Generation, v.Reason == v1alpha1.ReasonReady, waits, v.Reason, v.Message)

	end, remedy := grantExpiry(g, l, now)
	status.Expires = end.status()
	end.set(&status.Conditions, g.Generation, remedy)
	if g.Spec.NotBefore == nil && g.Spec.NotAfter == nil {
		return status, time.Time{}
	}
	until := v.Until
	if until.IsZero() || !end.changes.IsZero() && end.changes.Before(until) {
		until = end.changes
	}
	return status, until
}

// grantExpiry says how near a grant is to its end, by its own time or that of its licence, whichever comes first, and what
// can be done about it.
func grantExpiry(g *v1alpha1.ModelGrant, l *v1alpha1.ModelLicense, now time.Time) (expiry, string) {
	if l == nil {
		return expiry{}, ""
	}
	_, until, graceUntil := entitlement.Validity(l, g)
	remedy := "set a later spec.notAfter"
	if ends := l.Spec.Terms.NotAfter; ends != nil && ends.Time.Equal(until) {
		remedy = fmt.Sprintf("ask %s to renew ModelLicense %s", l.Spec.Licensor, l.Name)
	}
	return expiryOf(until, graceUntil, now), remedy
}
