package controllers

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/prefilter"
)

const (
	// webhookDebounce is how long changes are gathered before the configurations are made anew.
	webhookDebounce = 100 * time.Millisecond

	// webhookRecheck is how often what cannot be watched is looked at: the configuration for workloads, of which no cache
	// holds a copy, and objects that are missing.
	webhookRecheck = time.Minute

	// unsyncedRetry is how soon it is tried again while licences have not been read yet.
	unsyncedRetry = 200 * time.Millisecond
)

// Certificates know what webhooks are served with.
type Certificates interface {
	// CABundle is what the API server should trust, PEM; nil while it is not known.
	CABundle() []byte
	// Verifies says whether the API server takes this replica's certificate if it trusts the bundle. Nil: it does.
	Verifies(bundle []byte) error
	// OnChange has f called after CABundle changed.
	OnChange(f func())
}

// Governing knows what is governed.
type Governing interface {
	// Snapshot returns what is known now, and whether it is complete.
	Snapshot() (*entitlement.Snapshot, bool)
	// Subscribe calls f with each licence and grant that changed, once the snapshot takes account of it.
	Subscribe(f func(client.Object))
}

// Rules know the kinds of workloads there are.
type Rules interface {
	// Rules are those of the webhook for workloads as of now.
	Rules() []admissionregistrationv1.RuleWithOperations
	// Changes tells whenever Rules returns others than before.
	Changes() <-chan event.GenericEvent
}

// WebhookReconciler keeps the webhook configurations: what they send to the operator follows licences and governed
// repositories, the certificates, and the kinds of workloads. The objects themselves come from the chart, without
// webhooks, and go with it; the operator applies their webhooks and never creates an object.
//
// The leader writes. Other replicas write only where there are no webhooks of ours at all, so that a replica that is to
// be ready before it can lead need not wait for a leader that knows nothing of this. All of them compute, for Ready and
// for Covers.
type WebhookReconciler struct {
	// Client reads the configurations for pods from the cache, and applies. Required.
	Client client.Client
	// Live reads the configuration for workloads. Required.
	Live client.Reader
	// Rights know what is governed. Required.
	Rights Governing
	// Certificates know what the API server is to trust. Required.
	Certificates Certificates
	// Workloads know which rules the webhook for workloads has. Optional: without it, there is none.
	Workloads Rules
	// Settings are the Service, the paths and the namespaces that are exempt.
	Settings admissionconfig.Settings

	trigger  chan event.GenericEvent
	leading  atomic.Bool
	wasReady atomic.Bool
	changes  atomic.Int64 // of licences

	// Of Reconcile alone, which never runs twice at the same time.
	computed      prefilter.Filter
	computedAt    int64
	lastWorkloads []admissionregistrationv1.ValidatingWebhook
	workloadsDue  time.Time

	mu    sync.Mutex
	known []knownFilter // those this replica made, the newest last
	live  inForce       // as last seen
}

// SetupWithManager registers the controller, in every replica.
func (r *WebhookReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.trigger = make(chan event.GenericEvent, 1)
	r.Rights.Subscribe(func(o client.Object) {
		if _, ok := o.(*v1alpha1.ModelLicense); ok {
			r.changes.Add(1)
			r.poke()
		}
	})
	r.Certificates.OnChange(r.poke)
	err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { // Runs in the leader.
		r.leading.Store(true)
		r.poke()
		<-ctx.Done()
		return nil
	}))
	if err != nil {
		return fmt.Errorf("adding a notice of leadership: %w", err)
	}
	all := reconcile.Request{NamespacedName: client.ObjectKey{Name: admissionconfig.Pods}}
	ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == admissionconfig.Pods }))
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{all} })
	later := handler.Funcs{GenericFunc: func(_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		q.AddAfter(all, webhookDebounce)
	}}
	b := ctrl.NewControllerManagedBy(mgr).Named("webhookconfiguration").
		Watches(&admissionregistrationv1.ValidatingWebhookConfiguration{}, one, ours).
		Watches(&admissionregistrationv1.MutatingWebhookConfiguration{}, one, ours).
		WatchesRawSource(source.Channel(r.trigger, later)).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)})
	if r.Workloads != nil {
		b = b.WatchesRawSource(source.Channel(r.Workloads.Changes(), later))
	}
	r.poke()
	return b.Complete(r)
}

// poke has the configurations looked at soon. It returns at once.
func (r *WebhookReconciler) poke() {
	select {
	case r.trigger <- event.GenericEvent{Object: &admissionregistrationv1.ValidatingWebhookConfiguration{}}:
	default: // One that is waiting will do.
	}
}

// Reconcile applies the webhooks where they are not as they should be.
func (r *WebhookReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	want, ok := r.state()
	if !ok {
		return ctrl.Result{RequeueAfter: unsyncedRetry}, nil
	}
	if len(want.CABundle) == 0 {
		return ctrl.Result{}, nil // Certificates tells when there is one.
	}
	live, err := r.read(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, missing := range live.missing() {
		ctrl.LoggerFrom(ctx).Error(errMissing, "Pods are not sent to the operator: install the chart again", "kind", missing)
	}
	if err := r.applyPods(ctx, live, want); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.applyWorkloads(ctx, want); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: webhookRecheck}, nil
}

// state is what the configurations are to be made of, unless licences have not been read yet: what little is known then
// must not replace what was known before.
func (r *WebhookReconciler) state() (admissionconfig.State, bool) {
	changes := r.changes.Load()
	snapshot, synced := r.Rights.Snapshot()
	if !synced {
		return admissionconfig.State{}, false
	}
	if changes != r.computedAt || len(r.filters()) == 0 {
		r.computed, r.computedAt = prefilter.New(snapshot.Patterns()), changes
		r.know(r.computed)
	}
	state := admissionconfig.State{Filter: r.computed, CABundle: r.Certificates.CABundle()}
	if r.Workloads != nil {
		state.WorkloadRules = r.Workloads.Rules()
	}
	return state, true
}

// applyPods writes the mutating webhook first: the other way round, an entitled pod could be stored without its key.
func (r *WebhookReconciler) applyPods(ctx context.Context, live *liveConfigurations, want admissionconfig.State) error {
	log := ctrl.LoggerFrom(ctx).WithValues("alternatives", want.Filter.Alternatives(), "coarse", want.Filter.Coarse())
	mutating := admissionconfig.MutatingPods(r.Settings, want)
	if live.mutating != nil && !admissionconfig.SameMutating(live.mutating.Webhooks, mutating) &&
		(r.leading.Load() || len(admissionconfig.OursMutating(live.mutating.Webhooks)) == 0) {
		apply, err := admissionconfig.MutatingApply(admissionconfig.Pods, mutating)
		if err != nil {
			return err
		}
		if err := r.apply(ctx, apply, "MutatingWebhookConfiguration "+admissionconfig.Pods); err != nil {
			return err
		}
		log.Info("Wrote the mutating webhook for pods")
	}
	validating := admissionconfig.ValidatingPods(r.Settings, want)
	if live.validating != nil && !admissionconfig.SameValidating(live.validating.Webhooks, validating) &&
		(r.leading.Load() || len(admissionconfig.OursValidating(live.validating.Webhooks)) == 0) {
		apply, err := admissionconfig.ValidatingApply(admissionconfig.Pods, validating)
		if err != nil {
			return err
		}
		if err := r.apply(ctx, apply, "ValidatingWebhookConfiguration "+admissionconfig.Pods); err != nil {
			return err
		}
		log.Info("Wrote the validating webhook for pods")
	}
	return nil
}

// applyWorkloads is for the leader alone, since nothing waits for it. No cache holds the configuration, of which caches
// could hold only one name, so that it is read when it is to change and once a minute.
func (r *WebhookReconciler) applyWorkloads(ctx context.Context, want admissionconfig.State) error {
	if !r.leading.Load() {
		return nil
	}
	webhooks := admissionconfig.ValidatingWorkloads(r.Settings, want)
	now := time.Now()
	if admissionconfig.SameValidating(r.lastWorkloads, webhooks) && now.Before(r.workloadsDue) {
		return nil
	}
	r.workloadsDue = now.Add(webhookRecheck - webhookDebounce)
	var live admissionregistrationv1.ValidatingWebhookConfiguration
	switch err := r.Live.Get(ctx, client.ObjectKey{Name: admissionconfig.Workloads}, &live); {
	case apierrors.IsNotFound(err):
		ctrl.LoggerFrom(ctx).Error(errMissing, "Workloads are not looked at: install the chart again", "configuration", admissionconfig.Workloads)
		return nil
	case err != nil:
		return fmt.Errorf("reading the configuration %s: %w", admissionconfig.Workloads, err)
	}
	if !admissionconfig.SameValidating(live.Webhooks, webhooks) {
		apply, err := admissionconfig.ValidatingApply(admissionconfig.Workloads, webhooks)
		if err != nil {
			return err
		}
		if err := r.apply(ctx, apply, "ValidatingWebhookConfiguration "+admissionconfig.Workloads); err != nil {
			return err
		}
	}
	r.lastWorkloads = webhooks
	return nil
}

func (r *WebhookReconciler) apply(ctx context.Context, configuration runtime.ApplyConfiguration, name string) error {
	if err := r.Client.Apply(ctx, configuration, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the webhooks of %s: %w", name, err)
	}
	return nil
}
