package trustedtime

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// beginAsks is how often the API server is asked for the time at the start.
const beginAsks = 3

// Begin reads the mark, and asks the API server what time it is: several times, over connections of their own, and the earliest
// answer counts. What this clock begins with is believed at once, where the machine's clock is as wrong. It is for the start,
// before anything is decided. An error means that the clock may go by the machine's time until the first record is
// written. It needs get on modelauditlogs.
func (c *Clock) Begin(ctx context.Context, reader client.Reader, asker Asker) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	head := &v1alpha1.ModelAuditLog{}
	if err := reader.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, head); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the time mark: %w", err)
	}
	c.Marked(markOf(head))
	earliest, err := earliestOf(ctx, asker, beginAsks)
	if err != nil {
		return err
	}
	c.Probed(earliest)
	return nil
}

// earliestOf is the earliest of so many answers, for which it is asked twice as often at most: a request may still get the
// connection that was just hung up. It is an error where nobody answers.
func earliestOf(ctx context.Context, asker Asker, answers int) (earliest time.Time, err error) {
	for tries := 2 * answers; answers > 0 && tries > 0; tries-- {
		at, failed := asker.Ask(ctx)
		if failed != nil {
			err = failed
			continue
		}
		answers--
		if earliest.IsZero() || at.Before(earliest) {
			earliest = at
		}
	}
	if earliest.IsZero() {
		return time.Time{}, err
	}
	return earliest, nil
}

// Follow keeps to the mark from now on: as it rises, and when it is reset.
func (c *Clock) Follow(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &v1alpha1.ModelAuditLog{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the time mark: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			if head, ok := o.(*v1alpha1.ModelAuditLog); ok {
				c.Marked(markOf(head))
			}
		},
		UpdateFunc: func(o, n any) {
			before, ok := o.(*v1alpha1.ModelAuditLog)
			after, is := n.(*v1alpha1.ModelAuditLog)
			if ok && is {
				c.moved(markOf(before), markOf(after))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching the time mark: %w", err)
	}
	return nil
}

// moved takes a mark that was another before. The operator alone writes it, and lets it go back only when it is reset.
func (c *Clock) moved(before, after time.Time) {
	if !after.IsZero() && after.Before(before) {
		c.Reset(after)
		return
	}
	c.Marked(after)
}

func markOf(head *v1alpha1.ModelAuditLog) time.Time {
	if head.Status.TimeMark == nil {
		return time.Time{}
	}
	return head.Status.TimeMark.Time
}

// Register registers the metrics of the clock.
func (c *Clock) Register(registry prometheus.Registerer) error {
	skew := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modelrights_clock_skew_seconds",
		Help: "By how much the clock of this replica's machine is ahead of the API server's, to about a second; below zero, behind.",
	}, func() float64 {
		skew, _ := c.Skew()
		return skew.Machine.Seconds()
	})
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modelrights_clock_held_seconds",
		Help: "By how much the API server's clock has leapt ahead of the time that this replica judges licences by, while that is not confirmed; 0 where it has not.",
	}, func() float64 {
		skew, _ := c.Skew()
		return skew.Held.Seconds()
	})
	for _, gauge := range []prometheus.Collector{skew, held} {
		if err := registry.Register(gauge); err != nil {
			return fmt.Errorf("registering the metrics of the clock: %w", err)
		}
	}
	return nil
}
