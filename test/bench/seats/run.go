package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// seatLimit is how many pods each licence is for: as many as a ledger can hold.
const seatLimit = v1alpha1.MaxSeatHolders

func podLimit(pods int64) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI)}
}

// bench measures: it holds all that runs.
type bench struct {
	plane    *cluster.ControlPlane
	watcher  client.WithWatch
	operator *cluster.Operator
	seeder   *cluster.Seeder
	writes   *writes
	plan     plan
	profiles string
	// start starts the operator.
	start func() (*cluster.Operator, error)
	// log gets what is going on.
	log func(format string, args ...any)
}

// measureAll starts everything, measures, and ends everything.
func measureAll(ctx context.Context, o *options, dir string) (result *report, err error) {
	result = &report{Plan: o.plan, Started: time.Now().UTC()}
	load, err := gauge.LoadAverages()
	if err != nil {
		return nil, err
	}
	b := &bench{plan: o.plan, profiles: o.profiles, log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs "+format+"\n", append([]any{time.Since(result.Started).Seconds()}, args...)...)
	}}
	binary := o.operator
	if binary == "" {
		b.log("building the operator")
		if binary, err = cluster.BuildOperator(ctx, o.root, dir); err != nil {
			return nil, err
		}
	}
	b.log("starting the API server, etcd and the operator")
	var flags []string
	if b.writes, flags, err = auditFlags(dir); err != nil {
		return nil, err
	}
	if b.plane, err = cluster.Start(o.root, o.assets, dir, flags...); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.plane.Stop()) }()
	if result.Machine, err = b.plane.Describe(load); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx, o.root, dir, binary); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.operator.Stop()) }()

	b.log("pods of one licence get seats")
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

// prepare installs and starts the operator, with the first ten licences.
func (b *bench) prepare(ctx context.Context, root, dir, binary string) (err error) {
	if b.watcher, err = client.NewWithWatch(b.plane.Config, client.Options{Scheme: b.plane.Client.Scheme()}); err != nil {
		return err
	}
	ports, err := cluster.FreePorts(b.plane.Address)
	if err != nil {
		return err
	}
	if err := cluster.InstallOperator(ctx, b.plane, root, ports); err != nil {
		return err
	}
	if err := b.plane.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespacePods}}); err != nil {
		return err
	}
	if b.seeder, err = cluster.NewSeeder(b.plane, true); err != nil {
		return err
	}
	b.seeder.Pods, b.seeder.Limits = namespacePods, podLimit(seatLimit)
	b.start = func() (*cluster.Operator, error) {
		return cluster.StartOperator(ctx, b.plane, root, dir, binary, ports)
	}
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

// profile keeps a profile of the operator, where that is asked for.
func (b *bench) profile(ctx context.Context, name, query string) error {
	return b.keepProfile(name, func() ([]byte, error) { return b.operator.Profile(ctx, query) })
}

// profileServer is profile of the API server.
func (b *bench) profileServer(ctx context.Context, name, query string) error {
	return b.keepProfile(name, func() ([]byte, error) { return b.plane.Profile(ctx, query) })
}

func (b *bench) keepProfile(name string, take func() ([]byte, error)) error {
	if b.profiles == "" {
		return nil
	}
	content, err := take()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.profiles, name+".pprof"), content, 0o600)
}
