package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// renewals is what came of the renewals that were asked for.
type renewals struct {
	// Renewed leases are what they are asked for; PerSecond is from when the first was due until the last was answered.
	Renewed   int     `json:"renewed"`
	PerSecond float64 `json:"renewedPerSecond"`
	// Otherwise are other verdicts, with their reasons; TooMany got status 429, and Failed another one, or no answer.
	Otherwise map[string]int `json:"otherwise,omitempty"`
	TooMany   int            `json:"tooManyRequests"`
	Failed    int            `json:"failed"`
	// FirstFailure is why the first was not answered, if not by 429.
	FirstFailure string `json:"firstFailure,omitempty"`
}

// count adds what came of one.
func (r *renewals) count(answer *protocol.RenewResponse, err error) {
	var unanswered *unanswered
	switch {
	case err == nil && answer.Verdict == protocol.Renewed:
		r.Renewed++
	case err == nil:
		if r.Otherwise == nil {
			r.Otherwise = map[string]int{}
		}
		r.Otherwise[string(answer.Verdict)+" "+string(answer.Reason)]++
	case errors.As(err, &unanswered) && unanswered.status == http.StatusTooManyRequests:
		r.TooMany++
	default:
		if r.Failed++; r.Failed == 1 {
			r.FirstFailure = err.Error()
		}
	}
}

// notRenewed is how many leases are no longer for it.
func (r *renewals) notRenewed() int {
	n := r.TooMany + r.Failed
	for _, count := range r.Otherwise {
		n += count
	}
	return n
}

// String says it in a line, first of all whether the figures are of renewals at all.
func (r *renewals) String() string {
	said := fmt.Sprintf("%d renewed, %.0f/s", r.Renewed, r.PerSecond)
	if r.notRenewed() == 0 {
		return said
	}
	var parts []string
	if r.TooMany > 0 {
		parts = append(parts, fmt.Sprintf("%d were refused with 429", r.TooMany))
	}
	for _, verdict := range slices.Sorted(maps.Keys(r.Otherwise)) {
		parts = append(parts, fmt.Sprintf("%d answered %s", r.Otherwise[verdict], verdict))
	}
	if r.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed, the first: %s", r.Failed, r.FirstFailure))
	}
	return "NOT ALL WERE RENEWED: " + strings.Join(parts, ", ") + "; " + said
}

// driverOf is the number of the driver on the node of the i-th pod that holds a seat.
func (p *plan) driverOf(pod int) int { return pod % p.Nodes }

// meet has each driver renew one lease, so that the key service knows its token and it is connected, as drivers are that
// have run for a while.
func (b *bench) meet(ctx context.Context, held []heldPod, drivers []driver) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cluster.Writers / 4)
	for i := range min(len(held), len(drivers)) {
		group.Go(func() error {
			answer, err := drivers[b.plan.driverOf(i)].renew(ctx, &held[i])
			if err != nil {
				return fmt.Errorf("first renewal of driver %d: %w", i, err)
			}
			if answer.Verdict != protocol.Renewed {
				return fmt.Errorf("first renewal of driver %d: %+v", i, *answer)
			}
			return nil
		})
	}
	return group.Wait()
}

// renew renews the leases of pods, one after another, at the rate at which kubelets republish their volumes. Each driver
// has renewed one before.
func (b *bench) renew(ctx context.Context, l *load, held []heldPod, drivers []driver) error {
	n := int(b.plan.Each.Seconds() * b.plan.renewRate())
	interval := time.Duration(float64(time.Second) / b.plan.renewRate())
	var mu sync.Mutex
	l.Renewals = &renewals{}
	start := time.Now()
	samples := gauge.Fire(ctx, n, interval, func(ctx context.Context, i int) error {
		pod := i % len(held)
		answer, err := drivers[b.plan.driverOf(pod)].renew(ctx, &held[pod])
		mu.Lock()
		defer mu.Unlock()
		l.Renewals.count(answer, err)
		return err
	})
	l.Renewals.PerSecond = float64(l.Renewals.Renewed) / time.Since(start).Seconds()
	var latencies []time.Duration
	for _, s := range samples {
		if s.Err == nil {
			latencies = append(latencies, s.Latency)
		}
	}
	l.Requests, l.Latency = n, gauge.LatenciesOf(latencies)
	l.Note = l.Renewals.String()
	return context.Cause(ctx)
}
