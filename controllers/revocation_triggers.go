package controllers

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// rightsWritten takes notice of a licence or grant that was written or removed. It asks for no snapshot: where many are
// written one after another, each would be made anew.
func (r *RevocationReconciler) rightsWritten(o client.Object) {
	switch o := o.(type) {
	case *v1alpha1.ModelLicense:
		r.licenses.saw(o)
		of := rightsTime{name: o.Name}
		r.changed(of)
		r.times.at(of, entitlement.NextChange(o, nil, r.Clock.Now()))
	case *v1alpha1.ModelGrant:
		of := rightsTime{namespace: o.Namespace, name: o.Name}
		r.changed(of)
		r.times.at(of, nextOfGrant(o, r.Clock.Now()))
	}
}

// changed asks for a sweep of the pods that a licence or a grant concerns.
func (r *RevocationReconciler) changed(of rightsTime) {
	if of.namespace != "" {
		r.sweeps.need(of.namespace)
		return
	}
	if ledger := r.Ledgers.Ledger(of.name); ledger != nil {
		for _, namespace := range namespacesOf(ledger) {
			r.sweeps.need(namespace)
		}
	}
}

// nextChange is when a licence or grant changes by itself, or a pod holds a seat of the licence beyond its limits for too
// long.
func (r *RevocationReconciler) nextChange(of rightsTime, now time.Time) time.Time {
	snapshot, _ := r.Rights.Snapshot()
	if of.namespace != "" {
		for _, g := range snapshot.GrantsIn(of.namespace) {
			if g.Name == of.name {
				return nextOfGrant(g, now)
			}
		}
		return time.Time{}
	}
	var next time.Time
	if license := snapshot.License(of.name); license != nil {
		next = entitlement.NextChange(license, nil, now)
	}
	if ledger := r.Ledgers.Ledger(of.name); ledger != nil {
		if surge := surgeEnds(ledger, now); !surge.IsZero() && (next.IsZero() || surge.Before(next)) {
			next = surge
		}
	}
	return next
}

// ledgerWritten takes notice of a ledger: keys that were wiped, seats within the limits again, and seats beyond them.
func (r *RevocationReconciler) ledgerWritten(license string) {
	ledger := r.Ledgers.Ledger(license)
	if ledger == nil {
		r.forgetLicenses()
	}
	r.noteWiped(license)
	if ledger == nil {
		return
	}
	// Also where the licence allows no surge any more: it may have been changed just after the seat was taken.
	r.times.at(rightsTime{name: license}, surgeEnds(ledger, r.Clock.Now()))
	if add := r.add.Load(); add != nil {
		for _, pod := range r.proceedings.surged(license, func(pod types.UID) bool { return isSurge(ledger, pod) }) {
			(*add)(reconcile.Request{NamespacedName: pod})
		}
	}
}

// noteWiped takes notice of the keys of a licence that are wiped, as its ledger says.
func (r *RevocationReconciler) noteWiped(license string) {
	for _, w := range r.proceedings.wiped(license, func(pod types.UID) bool { return isWiped(r.Ledgers, license, pod) }) {
		if r.Metrics != nil {
			r.Metrics.wiped.Observe(r.Clock.Since(w.seen).Seconds())
		}
	}
}

// timeSurges sets the timers of the seats beyond the limits that are there at the start.
func (r *RevocationReconciler) timeSurges() {
	now := r.Clock.Now()
	for _, name := range r.Ledgers.Licenses() {
		if ledger := r.Ledgers.Ledger(name); ledger != nil {
			r.times.at(rightsTime{name: name}, surgeEnds(ledger, now))
		}
	}
}

// forgetLicenses forgets licences that are gone and of which nobody holds a seat.
func (r *RevocationReconciler) forgetLicenses() {
	if snapshot, synced := r.Rights.Snapshot(); synced && r.Ledgers.Synced() {
		r.licenses.forget(func(name string) bool { return snapshot.License(name) == nil && r.Ledgers.Ledger(name) == nil })
	}
}

// nodeRelabelled asks for a sweep of the pods on a node whose licence asks for labels.
func (r *RevocationReconciler) nodeRelabelled(node string) {
	for _, name := range r.Ledgers.Licenses() {
		license, ledger := r.licenses.last(name), r.Ledgers.Ledger(name)
		if license == nil || ledger == nil || len(license.Spec.Terms.NodeSelector) == 0 {
			continue
		}
		for _, h := range ledger.Holders() {
			if h.Node == node || h.Node == "" {
				r.sweeps.need(h.Grant.Namespace)
			}
		}
	}
}

// visit adds the pods of a namespace of which something is to be done.
func (r *RevocationReconciler) visit(ctx context.Context, namespace string, pods []corev1.Pod, add func(reconcile.Request)) error {
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, false)
	if err != nil {
		return err
	}
	snapshot, _ := r.Rights.Snapshot()
	if r.licenses.grown() {
		r.forgetLicenses()
	}
	for i := range pods {
		pod := &pods[i]
		held, revoked := r.held(pod), isRevoked(conditionOf(pod, v1alpha1.PodConditionLicensed))
		if len(held) == 0 && !revoked {
			continue
		}
		if lost := lossesOf(pod, held, r.cachedFacts(ctx, pod, labels, snapshot)); isCut(pod) || revoked || len(lost) > 0 {
			add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return nil
}
