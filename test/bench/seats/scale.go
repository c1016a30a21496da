package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// scaleReport is what the operator costs while very many pods hold a seat.
type scaleReport struct {
	// SeedSeconds is how long it took to write everything. ReadySeconds is from the start of the operator's process, with all
	// of it in place, until it was ready; SettleSeconds until it had nothing more to do; StartWrites are what it wrote until
	// then.
	SeedSeconds   float64 `json:"seedSeconds"`
	ReadySeconds  float64 `json:"readySeconds"`
	SettleSeconds float64 `json:"settleSeconds"`
	StartWrites   written `json:"startWrites"`
	// AfterStart is the memory once it is at rest for the first time, with the peak of the start.
	AfterStart gauge.MemoryReport `json:"afterStart"`
	// Loads are what it was watched under.
	Loads []load `json:"loads"`
	// Failed says under which load measuring ended, and why; empty where it did not.
	Failed string `json:"failed,omitempty"`
}

// load is what the operator used under one load.
type load struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	// CPUs is how many the operator and others kept busy on average.
	CPUs gauge.Split `json:"cpus"`
	// Memory is after it, MostRSS the most that was resident meanwhile, in MiB.
	Memory  gauge.MemoryReport `json:"memory"`
	MostRSS float64            `json:"mostRssMiB"`
	// Requests are those that the load is made of, Latency theirs, in milliseconds: of a renewal, or of a pod from its creation
	// until it is ungated.
	Requests int             `json:"requests,omitempty"`
	Latency  gauge.Latencies `json:"latency"`
	Renewals *renewals       `json:"renewals,omitempty"`
	Note     string          `json:"note,omitempty"`
	Writes   written         `json:"writes"`
}

// scale measures with very many licences, grants and pods.
func (b *bench) scale(ctx context.Context) (*scaleReport, error) {
	r := &scaleReport{}
	held, drivers, err := b.fill(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := b.profile(ctx, "heap-start", "heap?gc=1"); err != nil {
		return nil, err
	}
	b.run.Log("  ready after %.1f s, at rest after %.1f s, %.0f MiB resident, %.0f at most", r.ReadySeconds, r.SettleSeconds, r.AfterStart.RSS, r.AfterStart.PeakRSS)
	if err := b.meet(ctx, held, drivers); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		name string
		do   func(context.Context, *load) error
	}{
		{"at rest", func(ctx context.Context, _ *load) error { return pause(ctx, b.plan.Each) }},
		{fmt.Sprintf("churn, %.0f pods/s", b.plan.ChurnRate), b.churn},
		{fmt.Sprintf("renewals, %.0f/s", b.plan.renewRate()), func(ctx context.Context, l *load) error { return b.renew(ctx, l, held, drivers) }},
	} {
		one, err := b.under(ctx, l.name, l.do)
		if err != nil && ctx.Err() == nil {
			r.Failed = fmt.Sprintf("%s: %v", l.name, err) // what was measured before is kept
			b.run.Log("  %s", r.Failed)
			return r, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		b.run.Log("  %s: %.2f CPUs, %.0f MiB resident, %s", one.Name, one.CPUs.By[cpuOperator], one.Memory.RSS, one.Note)
		r.Loads = append(r.Loads, *one)
		if err := b.clearPods(ctx); err != nil {
			return nil, err
		}
	}
	return r, b.profile(ctx, "heap-end", "heap?gc=1")
}

// fill writes everything while the operator is away, starts it, and waits until it is at rest.
func (b *bench) fill(ctx context.Context, r *scaleReport) (held []heldPod, drivers []driver, err error) {
	b.run.Log("%d licences, %d grants, %d pods: writing", b.plan.Licenses, b.plan.Licenses*cluster.GrantsPerLicense, b.plan.Held)
	template, err := b.template(ctx)
	if err != nil {
		return nil, nil, err
	}
	start := time.Now()
	if err := b.operator.Stop(); err != nil {
		return nil, nil, err
	}
	var nodes []client.Object
	for i := range b.plan.Nodes {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}})
	}
	if err := b.seeder.CreateAll(ctx, nodes); err != nil {
		return nil, nil, err
	}
	if held, err = b.hold(ctx, template); err != nil {
		return nil, nil, fmt.Errorf("writing pods and ledgers: %w", err)
	}
	if err := b.seeder.Grow(ctx, b.plan.Licenses); err != nil {
		return nil, nil, fmt.Errorf("writing licences and grants: %w", err)
	}
	r.SeedSeconds = time.Since(start).Seconds()
	if err := b.skipWrites(ctx); err != nil {
		return nil, nil, err
	}
	if err := b.serverAtRest(ctx); err != nil {
		return nil, nil, err
	}
	start = time.Now()
	if b.operator, err = b.start(); err != nil {
		return nil, nil, err
	}
	r.ReadySeconds = time.Since(start).Seconds()
	if err := b.operator.Settle(ctx, time.Second, settleAtMost); err != nil {
		return nil, nil, err
	}
	r.SettleSeconds = time.Since(start).Seconds()
	if r.StartWrites, err = b.writesSince(ctx); err != nil {
		return nil, nil, err
	}
	if r.AfterStart, err = b.operator.Memory(ctx); err != nil {
		return nil, nil, err
	}
	drivers, err = b.drivers(ctx)
	return held, drivers, err
}

// serverAtRest waits until the API server has read from etcd what was written behind its back: an operator that starts before
// waits for that, and not for itself.
func (b *bench) serverAtRest(ctx context.Context) error {
	deadline := time.Now().Add(settleAtMost)
	for quiet := 0; quiet < 3; {
		before, err := gauge.CPUTime(b.server)
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		after, err := gauge.CPUTime(b.server)
		if err != nil {
			return err
		}
		switch {
		case after-before < 200*time.Millisecond:
			quiet++
		case time.Now().After(deadline):
			return fmt.Errorf("the API server has not come to rest in %v", settleAtMost)
		default:
			quiet = 0
		}
	}
	return nil
}

// template is a pod that got its seat, as it is then.
func (b *bench) template(ctx context.Context) (*corev1.Pod, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, err := observe(watching, b.watcher, namespacePods, v1alpha1.SeatGate)
	if err != nil {
		return nil, err
	}
	const name = "template"
	if _, err := createPods(ctx, b.plane.Client, podsOf([]string{name}), nil); err != nil {
		return nil, err
	}
	if _, err := seen.wait(ctx, []string{name}); err != nil {
		return nil, err
	}
	if err := b.operator.Settle(ctx, time.Second, settleAtMost); err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := b.plane.Client.Get(ctx, client.ObjectKey{Namespace: namespacePods, Name: name}, pod); err != nil {
		return nil, err
	}
	return pod, b.clearPods(ctx)
}

// under watches the operator while it is under a load.
func (b *bench) under(ctx context.Context, name string, do func(context.Context, *load) error) (*load, error) {
	l := &load{Name: name}
	if err := b.skipWrites(ctx); err != nil {
		return nil, err
	}
	before, err := b.cpus()
	if err != nil {
		return nil, err
	}
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for pause(sampling, 200*time.Millisecond) == nil {
			if m, err := gauge.MemoryOf(b.operator.PID()); err == nil {
				l.MostRSS = max(l.MostRSS, float64(m.RSS)/(1<<20))
			}
		}
	})
	var profiles errgroup.Group
	profiles.Go(func() error {
		kind, _, _ := strings.Cut(name, ",")
		return b.profile(ctx, "cpu-"+strings.ReplaceAll(kind, " ", "-"), "profile?seconds=8")
	})
	err = errors.Join(do(ctx, l), profiles.Wait())
	stop()
	sampler.Wait()
	if err != nil {
		return nil, err
	}
	after, err := b.cpus()
	if err != nil {
		return nil, err
	}
	l.CPUs = after.Since(before)
	l.Seconds = l.CPUs.Seconds
	if l.Memory, err = b.operator.Memory(ctx); err != nil {
		return nil, err
	}
	l.Writes, err = b.writesSince(ctx)
	return l, err
}

// churn creates pods at a rate, and deletes each of them after a while. They get their seats meanwhile.
func (b *bench) churn(ctx context.Context, l *load) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, err := observe(ctx, b.watcher, namespacePods, v1alpha1.SeatGate)
	if err != nil {
		return err
	}
	const life = 5 * time.Second
	n, interval := int(b.plan.Each.Seconds()*b.plan.ChurnRate), time.Duration(float64(time.Second)/b.plan.ChurnRate)
	names, start := podNames("churn", n), time.Now()
	var deletions sync.WaitGroup
	failed := make(chan error, n)
	samples := gauge.Fire(ctx, n, interval, func(ctx context.Context, i int) error {
		pod := newPod(names[i], i%cluster.LicensesAtFirst)
		if err := b.plane.Client.Create(ctx, pod); err != nil {
			return err
		}
		deletions.Go(func() {
			if err := pause(ctx, life); err != nil {
				return
			}
			if err := b.plane.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
				failed <- err
			}
		})
		return nil
	})
	deletions.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	for _, s := range samples {
		if s.Err != nil {
			errs = append(errs, s.Err)
		}
	}
	if len(errs) > n/10 {
		return fmt.Errorf("%d requests failed, the first: %w", len(errs), errs[0])
	}
	ungated, waiting, err := seen.of(names)
	if err != nil {
		return err
	}
	var latencies []time.Duration
	for i, name := range names {
		if at, ok := ungated[name]; ok {
			latencies = append(latencies, at.Sub(start.Add(time.Duration(i)*interval)))
		}
	}
	l.Requests, l.Latency = n, gauge.LatenciesOf(latencies)
	l.Note = fmt.Sprintf("ungated p99 %.0f ms; %d of %d were not ungated in %v; %d requests failed", l.Latency.P99, waiting, n, life, len(errs))
	return nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
