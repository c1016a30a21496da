package controllers

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// longestTimer bounds a timer. The time that licences are judged by is corrected now and then, which timers that run
// already take no notice of.
const longestTimer = time.Hour

// rightsTime names a licence (by its name alone) or a grant that changes by itself.
type rightsTime struct{ namespace, name string }

// rightsTimes tells when licences and grants change by themselves: begin, end, or end their grace period.
type rightsTimes struct {
	queue workqueue.TypedDelayingInterface[rightsTime]
	clock clock.PassiveClock
	// next is when a licence or grant changes after a moment, zero where it does not; due is called when it does.
	next func(of rightsTime, now time.Time) time.Time
	due  func(of rightsTime)
}

// newRightsTimes returns timers that run by one clock, of changes by another.
func newRightsTimes(timers clock.WithTicker, now clock.PassiveClock, next func(rightsTime, time.Time) time.Time, due func(rightsTime)) *rightsTimes {
	queue := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[rightsTime]{Clock: timers})
	return &rightsTimes{queue: queue, clock: now, next: next, due: due}
}

// schedule sets the timer of what was written. One that runs and would ring sooner stays: it does no harm.
func (t *rightsTimes) schedule(of rightsTime) {
	now := t.clock.Now()
	if next := t.next(of, now); !next.IsZero() {
		t.queue.AddAfter(of, min(next.Sub(now), longestTimer))
	}
}

// run calls due until ctx ends.
func (t *rightsTimes) run(ctx context.Context) {
	defer context.AfterFunc(ctx, t.queue.ShutDown)()
	for {
		of, shutdown := t.queue.Get()
		if shutdown {
			return
		}
		t.queue.Done(of)
		t.due(of)
		t.schedule(of)
	}
}

// timeOfRights names a licence or grant, and says whether it has times of its own. A grant that has none changes with its
// licence.
func timeOfRights(o client.Object) (rightsTime, bool) {
	switch o := o.(type) {
	case *v1alpha1.ModelLicense:
		terms := &o.Spec.Terms
		return rightsTime{name: o.Name}, terms.NotBefore != nil || terms.NotAfter != nil || terms.Surge != nil
	case *v1alpha1.ModelGrant:
		return rightsTime{namespace: o.Namespace, name: o.Name}, o.Spec.NotBefore != nil || o.Spec.NotAfter != nil
	}
	return rightsTime{}, false
}

// nextOfGrant is when a grant changes by its own times, or its licence does.
func nextOfGrant(s *entitlement.Snapshot, namespace, name string, now time.Time) time.Time {
	for _, g := range s.GrantsIn(namespace) {
		if l := s.License(g.Spec.LicenseName); g.Name == name && l != nil {
			return entitlement.NextChange(l, g, now)
		}
	}
	return time.Time{}
}
