package controllers

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
)

// execDebounce is how long changes of licences and grants are gathered before the webhooks for interactive access follow
// them: the first does not wait, since pods may run under it in a moment.
const execDebounce = time.Second

// errExecBeyond: documented in docs/terms.md, exec.
var errExecBeyond = errors.New("licences deny interactive access in more namespaces than a webhook names")

// ExecWebhooks keeps the webhooks for interactive access: they are sent what happens in namespaces that hold grants of
// licences which deny or record it, or pods with seats of such licences: who deletes a grant in a namespace shall not get in
// before the key is wiped, nor while the pod has what it read. It writes only when the namespaces change, the certificates,
// or what somebody else did to the configuration; what it costs to look is a pass over the namespaces and the holders of
// seats in memory, at most once a second.
type ExecWebhooks struct {
	// Client applies. Required.
	Client client.Client
	// Live reads the configuration, of which no cache holds a copy. Required.
	Live client.Reader
	// Rights know licences and grants. Required.
	Rights Governing
	// Ledgers know who holds seats. Required.
	Ledgers SeatLedgers
	// Certificates know what the API server is to trust. Required.
	Certificates Certificates
	// Settings are the Service, the paths and the namespaces that are exempt.
	Settings admissionconfig.Settings

	trigger chan event.GenericEvent

	// Of Reconcile alone, which never runs twice at the same time.
	last []admissionregistrationv1.ValidatingWebhook
	due  time.Time
	// looked is when the namespaces were gone through last.
	looked time.Time
}

// SetupWithManager registers the controller, which runs on the leader.
func (r *ExecWebhooks) SetupWithManager(mgr ctrl.Manager) error {
	r.trigger = make(chan event.GenericEvent, 1)
	r.Rights.Subscribe(func(client.Object) { r.poke() })
	r.Certificates.OnChange(r.poke)
	r.poke()
	all := reconcile.Request{NamespacedName: client.ObjectKey{Name: admissionconfig.Exec}}
	return ctrl.NewControllerManagedBy(mgr).Named("execwebhooks").
		WatchesRawSource(source.Channel(r.trigger, handler.Funcs{
			GenericFunc: func(_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				q.Add(all)
			},
		})).
		Complete(r)
}

// poke has the webhooks looked at soon. It returns at once.
func (r *ExecWebhooks) poke() {
	select {
	case r.trigger <- event.GenericEvent{Object: &admissionregistrationv1.ValidatingWebhookConfiguration{}}:
	default: // One that is waiting will do.
	}
}

// Reconcile applies the webhooks where they are not as they should be.
func (r *ExecWebhooks) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	now := time.Now()
	if wait := r.looked.Add(execDebounce).Sub(now); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	snapshot, synced := r.Rights.Snapshot()
	bundle := r.Certificates.CABundle()
	if !synced || !r.Ledgers.Synced() || len(bundle) == 0 {
		return ctrl.Result{RequeueAfter: unsyncedRetry}, nil
	}
	r.looked = now
	scope := admissionconfig.NewExecScope(execPolicies(snapshot, r.Ledgers))
	want := admissionconfig.ValidatingExec(r.Settings, scope, bundle)
	if admissionconfig.SameValidating(r.last, want) && now.Before(r.due) {
		return ctrl.Result{RequeueAfter: r.due.Sub(now)}, nil
	}
	if err := r.write(ctx, want); err != nil {
		return ctrl.Result{}, err
	}
	if scope.Beyond > 0 {
		ctrl.LoggerFrom(ctx).Error(errExecBeyond, "Interactive access is denied in these only while an operator answers", "namespaces", scope.Beyond, "named", len(scope.Deny))
	}
	r.last, r.due = want, now.Add(webhookRecheck)
	return ctrl.Result{RequeueAfter: webhookRecheck}, nil
}

// write applies the webhooks where the configuration holds others.
func (r *ExecWebhooks) write(ctx context.Context, want []admissionregistrationv1.ValidatingWebhook) error {
	var live admissionregistrationv1.ValidatingWebhookConfiguration
	switch err := r.Live.Get(ctx, client.ObjectKey{Name: admissionconfig.Exec}, &live); {
	case apierrors.IsNotFound(err):
		ctrl.LoggerFrom(ctx).Error(errMissing, "Interactive access is neither denied nor recorded: install the chart again", "configuration", admissionconfig.Exec)
		return nil
	case err != nil:
		return fmt.Errorf("reading the configuration %s: %w", admissionconfig.Exec, err)
	}
	if admissionconfig.SameValidating(live.Webhooks, want) {
		return nil
	}
	apply, err := admissionconfig.ValidatingApply(admissionconfig.Exec, want)
	if err != nil {
		return err
	}
	if err := r.Client.Apply(ctx, apply, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the webhooks of ValidatingWebhookConfiguration %s: %w", admissionconfig.Exec, err)
	}
	ctrl.LoggerFrom(ctx).Info("Wrote the webhooks for interactive access", "webhooks", len(want))
	return nil
}

// execPolicies is the strictest policy among the licences that a namespace holds grants or seats of, by namespace. Grants
// of licences that do not exist say nothing: no key is released under them.
func execPolicies(s *entitlement.Snapshot, ledgers SeatLedgers) iter.Seq2[string, v1alpha1.ExecPolicy] {
	return func(yield func(string, v1alpha1.ExecPolicy) bool) {
		held := heldPolicies(s, ledgers)
		for namespace, licenses := range s.GrantedLicenses() {
			policy, granted := held[namespace]
			if !granted {
				policy = v1alpha1.ExecAllow
			}
			delete(held, namespace)
			for name := range licenses {
				if l := s.License(name); l != nil {
					policy, granted = admissionconfig.StricterExec(policy, l.Spec.Terms.Exec), true
				}
			}
			if granted && !yield(namespace, policy) {
				return
			}
		}
		for _, namespace := range slices.Sorted(maps.Keys(held)) {
			if !yield(namespace, held[namespace]) {
				return
			}
		}
	}
}

// heldPolicies is the strictest policy among the licences that the pods of a namespace hold seats of, by namespace. A
// licence that does not exist any more denies nothing, as whoever decides has it.
func heldPolicies(s *entitlement.Snapshot, ledgers SeatLedgers) map[string]v1alpha1.ExecPolicy {
	held := map[string]v1alpha1.ExecPolicy{}
	for _, name := range ledgers.Licenses() {
		l, ledger := s.License(name), ledgers.Ledger(name)
		if l == nil || ledger == nil || l.Spec.Terms.Exec == v1alpha1.ExecAllow {
			continue
		}
		for _, namespace := range namespacesOf(ledger) {
			before, ok := held[namespace]
			if !ok {
				before = v1alpha1.ExecAllow
			}
			held[namespace] = admissionconfig.StricterExec(before, l.Spec.Terms.Exec)
		}
	}
	return held
}
