package nodedriver

import (
	"context"
	"errors"
	"sync"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// courier delivers the reports that wait. It is used by one goroutine.
type courier struct {
	driver *Driver
	// failures is how often in a row the key service could not be reached, tryAgain when to try again.
	failures int
	tryAgain time.Duration
}

// deliver tells the key service what waits, and returns after what time to go on. While the service cannot be reached one
// report at a time finds that out.
func (c *courier) deliver(ctx context.Context) (next time.Duration) {
	d := c.driver
	for ctx.Err() == nil {
		most := protocol.MaxCallsPerNode
		if c.failures > 0 {
			if wait := c.tryAgain - d.options.Boot.Now(); wait > 0 {
				return min(wait, longestSleep)
			}
			most = 1
		}
		now, next := d.reports.ready(most)
		if len(now) == 0 {
			return next
		}
		if d.deliverAll(ctx, now) {
			c.failures = 0
			continue
		}
		c.tryAgain = d.options.Boot.Now() + backOff(c.failures)
		c.failures++
	}
	return 0
}

// deliverAll delivers reports at the same time and says whether the key service could be reached.
func (d *Driver) deliverAll(ctx context.Context, now []*report) bool {
	var calls sync.WaitGroup
	reached := make([]bool, len(now))
	for i, w := range now {
		calls.Go(func() { reached[i] = d.deliverOne(ctx, w) })
	}
	calls.Wait()
	for _, r := range reached {
		if !r {
			return false
		}
	}
	return true
}

// deliverOne delivers a report, unless it is not true yet or never will be wanted.
func (d *Driver) deliverOne(ctx context.Context, w *report) (reached bool) {
	w.sending.Lock()
	defer w.sending.Unlock()
	if d.reports.isDone(w) {
		return true
	}
	log := d.options.Log.WithValues("event", w.Event, "namespace", w.Volume.PodNamespace, "pod", w.Volume.PodName,
		"license", w.Volume.License, "volume", w.Volume.Handle)
	if age := d.reports.wall().Sub(w.Time); age > maxReportAge {
		d.reports.drop(w)
		log.Info("A report is given up: it is too old", "age", age.String())
		return true
	}
	if w.Event == protocol.Unpublished {
		// The driver ended between the two, and kubelet has not come back yet.
		if state, err := d.options.Mounts.Look(w.Target); err != nil || state != NothingMounted {
			d.reports.postpone(w)
			return true
		}
	}
	err := d.options.Keys.Report(ctx, &protocol.ReportRequest{
		Volume: w.Volume, Event: w.Event, Reason: w.Reason, AgeMilliseconds: w.age(d.options.Boot).Milliseconds(),
	})
	var refusal *protocol.Error
	switch {
	case err == nil:
		d.reports.drop(w)
		d.metrics.reports.WithLabelValues(string(w.Event), resultDone).Inc()
		log.V(1).Info("Report delivered")
	case !errors.As(err, &refusal) || concernsAll(refusal.Reason):
		d.metrics.reports.WithLabelValues(string(w.Event), resultFailed).Inc()
		log.V(1).Info("Report not delivered", "error", err.Error())
		return false
	case refusal.Temporary:
		d.reports.postpone(w)
		d.metrics.reports.WithLabelValues(string(w.Event), resultFailed).Inc()
		log.V(1).Info("Report not taken yet", "error", refusal.Error())
	default:
		d.reports.drop(w)
		d.metrics.reports.WithLabelValues(string(w.Event), resultRefused).Inc()
		log.Info("Report refused", "error", refusal.Error())
	}
	return true
}

// concernsAll says whether a refusal is none of the one report: later it may be taken.
func concernsAll(reason v1alpha1.Reason) bool {
	switch reason {
	case v1alpha1.ReasonKeyServiceUnreachable, v1alpha1.ReasonTooManyRequests,
		v1alpha1.ReasonUnauthenticated, v1alpha1.ReasonNotNodeDriver, v1alpha1.ReasonTokenNotBound:
		return true
	default:
		return false
	}
}
