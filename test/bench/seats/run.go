package main

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
	"modelrights.dev/modelrights/test/bench/run"
)

// seatLimit is how many pods each licence is for: as many as a ledger can hold.
const seatLimit = v1alpha1.MaxSeatHolders

func podLimit(pods int64) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI)}
}

// bench measures: it holds all that runs.
type bench struct {
	run      *run.Run
	plane    *cluster.ControlPlane
	watcher  client.WithWatch
	operator *cluster.Operator
	seeder   *cluster.Seeder
	writes   *writes
	plan     plan
	// direct has a connection of its own, as an operator has.
	direct client.Client
	// server and store are the API server and etcd.
	server, store int
	// start starts the operator.
	start func() (*cluster.Operator, error)
}

// measureAll starts everything, measures, and ends everything.
func measureAll(ctx context.Context, r *run.Run, p plan) (result *report, err error) {
	result = &report{Plan: p, Started: r.Started}
	b := &bench{run: r, plan: p}
	var flags []string
	if b.writes, flags, err = auditFlags(r.Dir); err != nil {
		return nil, err
	}
	started, err := r.Start(ctx, flags...)
	if err != nil {
		return nil, err
	}
	b.plane, result.Machine = started.Plane, started.Machine
	defer func() { err = errors.Join(err, b.plane.Stop()) }()
	if b.start, err = started.Install(ctx, "--exempt-namespace="+namespaceWithout); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.operator.Stop()) }()

	r.Log("pods of one licence get seats")
	before, err := gauge.TakeUsage()
	if err != nil {
		return nil, err
	}
	if result.Allocations, err = b.allocate(ctx); err != nil {
		return nil, err
	}
	if result.Scale, err = b.scale(ctx); err != nil {
		return nil, err
	}
	after, err := gauge.TakeUsage()
	if err != nil {
		return nil, err
	}
	result.ForeignCPUs = after.ForeignSince(before)
	result.Aims = judge(result)
	result.Seconds = time.Since(result.Started).Seconds()
	return result, nil
}

// prepare starts the operator, with the first ten licences.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.watcher, err = client.NewWithWatch(b.plane.Config, client.Options{Scheme: b.plane.Client.Scheme()}); err != nil {
		return err
	}
	apart := rest.CopyConfig(b.plane.Config)
	apart.Dial = (&net.Dialer{}).DialContext // configurations that dial by themselves share no connections
	if b.direct, err = client.New(apart, client.Options{Scheme: b.plane.Client.Scheme()}); err != nil {
		return err
	}
	for name, pid := range map[string]*int{"kube-apiserver": &b.server, "etcd": &b.store} {
		if *pid, err = gauge.Child(name); err != nil {
			return err
		}
	}
	for _, name := range []string{namespacePods, namespaceWithout} {
		if err := b.plane.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	if b.seeder, err = cluster.NewSeeder(b.plane, true); err != nil {
		return err
	}
	b.seeder.Pods, b.seeder.Limits = namespacePods, podLimit(seatLimit)
	b.run.Log("starting the operator")
	if b.operator, err = b.start(); err != nil {
		return err
	}
	if err := b.seeder.Grow(ctx, cluster.LicensesAtFirst); err != nil {
		return errors.Join(err, b.operator.Stop())
	}
	if err := b.operator.Settle(ctx, time.Second, settleAtMost); err != nil {
		return errors.Join(err, b.operator.Stop())
	}
	return nil
}

// Whose CPU time is told apart.
const (
	cpuOperator  = "operator"
	cpuServer    = "API server"
	cpuStore     = "etcd"
	cpuBenchmark = "benchmark"
)

// cpus reads what all that runs has used of CPUs.
func (b *bench) cpus() (gauge.Reading, error) {
	return gauge.Processes{cpuOperator: b.operator.PID(), cpuServer: b.server, cpuStore: b.store, cpuBenchmark: os.Getpid()}.Take()
}

// profile keeps a profile of the operator, where that is asked for.
func (b *bench) profile(ctx context.Context, name, query string) error {
	return b.run.Profile(name, func() ([]byte, error) { return b.operator.Profile(ctx, query) })
}

// profileServer is profile of the API server.
func (b *bench) profileServer(ctx context.Context, name, query string) error {
	return b.run.Profile(name, func() ([]byte, error) { return b.plane.Profile(ctx, query) })
}
