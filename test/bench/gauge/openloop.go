package gauge

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Sample is one request of an open loop.
type Sample struct {
	// Latency is the time from the moment at which the request was due to its answer. It includes the time by which it
	// was sent too late, so that a stall counts for every request that was due meanwhile (no coordinated omission).
	Latency time.Duration
	// Late is how long after it was due the request was sent.
	Late time.Duration
	// Err is why the request did not end as expected.
	Err error
}

// Fire sends n requests, the i-th of them i intervals after the start, whether or not the earlier ones were answered, and
// returns when all were. The samples are in the order in which requests were due.
func Fire(ctx context.Context, n int, interval time.Duration, send func(ctx context.Context, i int) error) []Sample {
	samples := make([]Sample, n)
	var sent sync.WaitGroup
	start := time.Now()
	for i := range n {
		due := start.Add(time.Duration(i) * interval)
		if wait := time.Until(due); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
			case <-timer.C:
			}
		}
		sent.Go(func() {
			late := time.Since(due)
			err := context.Cause(ctx)
			if err == nil {
				err = send(ctx, i)
			}
			samples[i] = Sample{Latency: time.Since(due), Late: late, Err: err}
		})
	}
	sent.Wait()
	return samples
}

// Percentile is the smallest of the durations that at least the share p of them do not exceed (nearest rank); 0 where
// there are none.
func Percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	rank := int(p*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}
