package controllers

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

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

// at sets a timer for when a licence or grant changes next; zero: it does not. One that runs and rings sooner stays: it does
// no harm.
func (t *rightsTimes) at(of rightsTime, next time.Time) {
	if !next.IsZero() {
		t.queue.AddAfter(of, min(next.Sub(t.clock.Now()), longestTimer))
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
		t.at(of, t.next(of, t.clock.Now()))
	}
}

// nextOfGrant is when a grant changes by its own times; its licence has a timer of its own.
func nextOfGrant(g *v1alpha1.ModelGrant, now time.Time) time.Time {
	return entitlement.NextChange(&v1alpha1.ModelLicense{}, g, now)
}
