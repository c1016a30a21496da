package webhooks

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// decider looks up what a decision needs: from memory first, and live before anything is denied.
type decider struct {
	rights   Rights
	seats    Seats // nil: nothing is known of them
	operator string
	denials  Denials
	clock    clock.PassiveClock
	later    func() (time.Time, bool)
	timeout  time.Duration
	metrics  *metrics
}

// verdict is what was decided on a pod, or on what an update changes in it.
type verdict struct {
	uses     entitlement.PodDecision
	refusals []entitlement.Refusal
	// unconfirmed names the field whose change memory alone may not admit: what it lets happen cannot be taken back. Empty:
	// none.
	unconfirmed string
}

// refused says whether anything is refused, be it tolerated or not.
func (v verdict) refused() bool { return len(v.refusals) > 0 || len(v.uses.Refused()) > 0 }

// denied says whether anything is refused that is not tolerated.
func (v verdict) denied() bool {
	return len(v.uses.Denied()) > 0 || slices.ContainsFunc(v.refusals, func(r entitlement.Refusal) bool { return !r.Tolerated })
}

// intolerable is what of the verdict denies.
func (v verdict) intolerable() verdict {
	refusals := slices.DeleteFunc(slices.Clone(v.refusals), func(r entitlement.Refusal) bool { return r.Tolerated })
	return verdict{uses: v.uses.Denied(), refusals: refusals, unconfirmed: v.unconfirmed}
}

// governed says whether licences, grants or the namespace's labels matter for the verdict.
func (v verdict) governed() bool { return len(v.refusals) > 0 || v.uses.Governed() }

// allowedReason is what an allowed pod counts as in the metrics.
func (v verdict) allowedReason() v1alpha1.Reason {
	if refused := v.uses.Refused(); len(refused) > 0 {
		return refused[0].Reason
	}
	if len(v.refusals) > 0 {
		return v.refusals[0].Reason
	}
	if v.uses.Governed() {
		return v1alpha1.ReasonEntitled
	}
	return v1alpha1.ReasonNotGoverned
}

// evaluation decides on a pod by a snapshot and its namespace's labels.
type evaluation func(s *entitlement.Snapshot, namespaceLabels map[string]string, now time.Time) verdict

// decide answers from memory where that entitles the pod. Otherwise, and where memory is not complete, it asks again by a
// live read, since the grant may have been written a moment ago; where that fails, the pod is refused as LookupFailed,
// unless all that memory refuses is tolerated. What memory alone may not admit is always read live; where that fails, it
// passes only if nothing is governed at all as far as memory goes.
func (d *decider) decide(ctx context.Context, namespace string, evaluate evaluation) verdict {
	var known verdict
	tolerated := false
	snapshot, synced := d.rights.Snapshot()
	if synced {
		labels, err := d.rights.NamespaceLabels(ctx, namespace, false)
		known = d.judge(evaluate, snapshot, labels)
		if known.unconfirmed == "" && (!known.governed() || err == nil && !known.refused()) {
			return known
		}
		tolerated = !known.denied() && (known.unconfirmed == "" && err == nil || known.unconfirmed != "" && !snapshot.GovernsAnything())
	}
	snapshot, labels, err := d.read(ctx, namespace)
	if err != nil {
		if tolerated {
			return known
		}
		logf.FromContext(ctx).Error(err, "Live read before a denial failed", "namespace", namespace)
		if !synced {
			known = evaluate(&entitlement.Snapshot{}, nil, d.clock.Now())
		}
		return known.undecided(synced)
	}
	return d.judge(evaluate, snapshot, labels)
}

// judge decides by the time that it is, and refuses what would be refused by the time that it may be.
func (d *decider) judge(evaluate evaluation, s *entitlement.Snapshot, labels map[string]string) verdict {
	v := evaluate(s, labels, d.clock.Now())
	if later, suspected := d.later(); suspected && !v.denied() {
		if then := evaluate(s, labels, later); then.denied() || !v.refused() {
			return then
		}
	}
	return v
}

func (d *decider) read(ctx context.Context, namespace string) (s *entitlement.Snapshot, labels map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	start := d.clock.Now()
	defer func() { d.metrics.read(d.clock.Since(start), err) }()
	if s, err = d.rights.Live(ctx, namespace); err != nil {
		return nil, nil, fmt.Errorf("reading licences and grants: %w", err)
	}
	if labels, err = d.rights.NamespaceLabels(ctx, namespace, true); err != nil {
		return nil, nil, fmt.Errorf("reading the namespace: %w", err)
	}
	return s, labels, nil
}

// undecided turns a verdict into one that refuses, because nothing could be looked up, what is governed; or everything,
// where it is not even known what is.
func (v verdict) undecided(knowsGoverned bool) verdict {
	var u verdict
	for _, use := range v.uses {
		if knowsGoverned && !use.Governed() {
			continue
		}
		use.Reason, use.Grant = v1alpha1.ReasonLookupFailed, nil
		use.Tolerated = use.Relaxed()
		u.uses = append(u.uses, use)
	}
	for _, r := range v.refusals {
		u.refusals = append(u.refusals, lookupFailed(r))
	}
	if v.unconfirmed != "" && len(v.refusals) == 0 {
		u.refusals = append(u.refusals, lookupFailed(entitlement.Refusal{Field: v.unconfirmed}))
	}
	return u
}

// lookupFailed is the refusal, since nothing could be looked up.
func lookupFailed(r entitlement.Refusal) entitlement.Refusal {
	r.Reason = v1alpha1.ReasonLookupFailed
	r.Message = "it cannot be decided now: licences and grants could not be read"
	r.Remedy = entitlement.Decision{Reason: v1alpha1.ReasonLookupFailed}.Remedy()
	return r
}

// lookupFailed says whether nothing was decided.
func (v verdict) lookupFailed() bool {
	for _, use := range v.uses {
		if use.Reason == v1alpha1.ReasonLookupFailed {
			return true
		}
	}
	return false
}
