package gauge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFireKeepsToItsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		sent := make([]time.Duration, 5)
		samples := Fire(t.Context(), 5, 10*time.Millisecond, func(_ context.Context, i int) error {
			sent[i] = time.Since(start)
			time.Sleep(25 * time.Millisecond) // longer than the interval: the next ones must not wait for it
			return nil
		})
		for i, s := range samples {
			if want := time.Duration(i) * 10 * time.Millisecond; sent[i] != want {
				t.Errorf("request %d was sent after %v, want %v", i, sent[i], want)
			}
			if s.Latency != 25*time.Millisecond || s.Late != 0 || s.Err != nil {
				t.Errorf("sample %d = %+v", i, s)
			}
		}
	})
}

func TestFireCountsAStallForAllThatWereDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalledUntil := time.Now().Add(50 * time.Millisecond)
		samples := Fire(t.Context(), 5, 10*time.Millisecond, func(context.Context, int) error {
			time.Sleep(time.Until(stalledUntil))
			return nil
		})
		for i, s := range samples {
			if want := time.Duration(5-i) * 10 * time.Millisecond; s.Latency != want {
				t.Errorf("latency of request %d = %v, want %v: it was due during the stall", i, s.Latency, want)
			}
		}
	})
}

func TestFireEndsWhenInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		samples := Fire(ctx, 1000, time.Second, func(ctx context.Context, i int) error {
			if i == 2 {
				cancel()
			}
			return ctx.Err()
		})
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("went on for %v", took)
		}
		if !errors.Is(samples[999].Err, context.Canceled) {
			t.Errorf("a request that was not sent ended with %v", samples[999].Err)
		}
	})
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = time.Duration(i + 1)
	}
	tests := map[string]struct {
		of   []time.Duration
		p    float64
		want time.Duration
	}{
		"nothing":             {p: 0.5},
		"one":                 {of: hundred[:1], p: 0.5, want: 100},
		"median":              {of: hundred, p: 0.5, want: 50},
		"99th":                {of: hundred, p: 0.99, want: 99},
		"greatest":            {of: hundred, p: 1, want: 100},
		"rank between values": {of: []time.Duration{1, 2, 3}, p: 0.5, want: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Percentile(tc.of, tc.p); got != tc.want {
				t.Errorf("percentile = %v, want %v", got, tc.want)
			}
		})
	}
}
