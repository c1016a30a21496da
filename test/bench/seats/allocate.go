package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// allocation is how pods of one licence got their seats.
type allocation struct {
	About string `json:"about"`
	Pods  int    `json:"pods"`
	// Without says that the pods have nothing to do with modelrights: direct clients write what the operator would.
	Without bool `json:"withoutModelrights,omitempty"`
	// Seconds is from when the first was created, or there was room, until the last was ungated.
	Seconds        float64 `json:"seconds"`
	SeatsPerSecond float64 `json:"seatsPerSecond"`
	// OfWithout is SeatsPerSecond as a share of what the runs without modelrights reached that came just before and after.
	OfWithout float64 `json:"ofWithoutModelrights,omitempty"`
	// Latency is from when a pod was created, or there was room, until it was ungated, in milliseconds.
	Latency gauge.Latencies `json:"latency"`
	// Writes are the operator's, WritesPerPod those that are for the sake of pods.
	Writes       written `json:"writes"`
	WritesPerPod float64 `json:"writesPerPod"`
	// CPUPerPod is what the operator used of CPUs until it was at rest again, in milliseconds.
	CPUPerPod float64 `json:"operatorCPUPerPod"`
	// CPUs is where they went until the last pod was ungated.
	CPUs gauge.Split `json:"cpus"`
}

// Bounds on what is waited for.
const (
	ungateAtMost = 3 * time.Minute
	settleAtMost = 5 * time.Minute
)

// allocate measures how fast pods get seats, and, in turn with that, how fast this API server lets anybody ungate pods.
func (b *bench) allocate(ctx context.Context) ([]allocation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, err := observe(ctx, b.watcher, namespacePods, v1alpha1.SeatGate)
	if err != nil {
		return nil, err
	}
	without, err := observe(ctx, b.watcher, namespaceWithout, gateWithout)
	if err != nil {
		return nil, err
	}
	var all []allocation
	for _, measure := range []func() (*allocation, error){
		func() (*allocation, error) { return b.steady(ctx, seen) },
		func() (*allocation, error) { return b.burstWithout(ctx, "first", without) },
		func() (*allocation, error) { return b.burst(ctx, seen) },
		func() (*allocation, error) { return b.burstWithout(ctx, "again", without) },
		func() (*allocation, error) { return b.queuedWithout(ctx, "first", without) },
		func() (*allocation, error) { return b.queued(ctx, seen) },
		func() (*allocation, error) { return b.queuedWithout(ctx, "again", without) },
	} {
		one, err := measure()
		if err != nil {
			return nil, err
		}
		b.run.Log("  %s: %.0f pods/s, p99 %.0f ms, %.2f writes/pod: %v", one.About, one.SeatsPerSecond, one.Latency.P99, one.WritesPerPod, one.Writes)
		all = append(all, *one)
		if err := b.clearPods(ctx); err != nil {
			return nil, err
		}
	}
	compare(all)
	return all, nil
}

// compare sets what is with modelrights in relation to what came just before and after without it.
func compare(all []allocation) {
	for i := 1; i < len(all)-1; i++ {
		before, after := &all[i-1], &all[i+1]
		if a := &all[i]; !a.Without && before.Without && after.Without {
			a.OfWithout = a.SeatsPerSecond / ((before.SeatsPerSecond + after.SeatsPerSecond) / 2)
		}
	}
}

// steady creates pods one after another.
func (b *bench) steady(ctx context.Context, seen *observer) (*allocation, error) {
	names := podNames("steady", b.plan.Steady)
	return b.allocation(ctx, "steady", fmt.Sprintf("%.0f pods/s, room for all", b.plan.SteadyRate), func() (map[string]time.Time, map[string]time.Time, error) {
		start, interval := time.Now(), time.Duration(float64(time.Second)/b.plan.SteadyRate)
		samples := gauge.Fire(ctx, len(names), interval, func(ctx context.Context, i int) error {
			return b.plane.Client.Create(ctx, newPod(names[i], 0))
		})
		due := map[string]time.Time{}
		for i, s := range samples {
			if s.Err != nil {
				return nil, nil, s.Err
			}
			due[names[i]] = start.Add(time.Duration(i) * interval)
		}
		ungated, err := seen.wait(ctx, names)
		return due, ungated, err
	})
}

// burst creates pods as fast as the API server takes them.
func (b *bench) burst(ctx context.Context, seen *observer) (*allocation, error) {
	names := podNames("burst", b.plan.Burst)
	return b.allocation(ctx, "burst", "all created at once, room for all", func() (map[string]time.Time, map[string]time.Time, error) {
		asked, err := createPods(ctx, b.plane.Client, podsOf(names), nil)
		if err != nil {
			return nil, nil, err
		}
		ungated, err := seen.wait(ctx, names)
		return asked, ungated, err
	})
}

// queued has pods wait for seats, and then makes room for all of them.
func (b *bench) queued(ctx context.Context, seen *observer) (*allocation, error) {
	names := podNames("queued", b.plan.Burst)
	if err := b.limit(ctx, 1); err != nil {
		return nil, err
	}
	if _, err := createPods(ctx, b.plane.Client, podsOf(names[:1]), nil); err != nil {
		return nil, err
	}
	if _, err := seen.wait(ctx, names[:1]); err != nil {
		return nil, err
	}
	names = names[1:]
	if _, err := createPods(ctx, b.plane.Client, podsOf(names), nil); err != nil {
		return nil, err
	}
	select { // the first of them are told their places
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ungated, _, err := seen.of(names); err != nil || len(ungated) > 0 {
		return nil, fmt.Errorf("%d pods were ungated though there is one seat: %w", len(ungated), err)
	}
	return b.allocation(ctx, "queued", "all waiting, then room for all", func() (map[string]time.Time, map[string]time.Time, error) {
		start := time.Now()
		if err := b.limit(ctx, seatLimit); err != nil {
			return nil, nil, err
		}
		since := make(map[string]time.Time, len(names))
		for _, name := range names {
			since[name] = start
		}
		ungated, err := seen.wait(ctx, names)
		return since, ungated, err
	})
}

// limit sets how many pods the first licence is for.
func (b *bench) limit(ctx context.Context, pods int64) error {
	var license v1alpha1.ModelLicense
	if err := b.plane.Client.Get(ctx, client.ObjectKey{Name: cluster.LicenseName(0)}, &license); err != nil {
		return err
	}
	before := license.DeepCopy()
	license.Spec.Terms.Limits = podLimit(pods)
	return b.plane.Client.Patch(ctx, &license, client.MergeFrom(before))
}

// allocation sums up what f did, which returns since when each pod could have its seat, and when it was ungated.
func (b *bench) allocation(ctx context.Context, name, about string, f func() (since, ungated map[string]time.Time, err error)) (*allocation, error) {
	if err := b.skipWrites(ctx); err != nil {
		return nil, err
	}
	var profiles errgroup.Group
	profiles.Go(func() error { return b.profile(ctx, "cpu-"+name, "profile?seconds=8") })
	profiles.Go(func() error { return b.profileServer(ctx, "cpu-server-"+name, "profile?seconds=8") })
	before, err := b.cpus()
	if err != nil {
		return nil, err
	}
	since, ungated, err := f()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", about, err)
	}
	done, err := b.cpus()
	if err != nil {
		return nil, err
	}
	if err := profiles.Wait(); err != nil {
		return nil, err
	}
	if err := b.operator.Settle(ctx, time.Second, settleAtMost); err != nil {
		return nil, err
	}
	atRest, err := b.cpus()
	if err != nil {
		return nil, err
	}
	a := &allocation{
		About: about, Pods: len(since),
		CPUs: done.Since(before), CPUPerPod: atRest.Since(before).Per(cpuOperator, len(since)),
	}
	if a.Writes, err = b.writesSince(ctx); err != nil {
		return nil, err
	}
	a.WritesPerPod = a.Writes.perPod(a.Pods)
	var first, last time.Time
	latencies := make([]time.Duration, 0, len(since))
	for name, from := range since {
		latencies = append(latencies, ungated[name].Sub(from))
		if first.IsZero() || from.Before(first) {
			first = from
		}
		if ungated[name].After(last) {
			last = ungated[name]
		}
	}
	a.Seconds = last.Sub(first).Seconds()
	a.SeatsPerSecond = float64(a.Pods) / a.Seconds
	a.Latency = gauge.LatenciesOf(latencies)
	return a, nil
}

// skipWrites leaves out of what is counted what was written so far.
func (b *bench) skipWrites(ctx context.Context) error {
	_, err := b.writesSince(ctx)
	return err
}

// writesSince is what the operator has written since this was last asked.
func (b *bench) writesSince(ctx context.Context) (written, error) {
	select {
	case <-time.After(2 * auditLag):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return b.writes.since()
}
