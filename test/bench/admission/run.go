package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
	"modelrights.dev/modelrights/test/bench/run"
)

// Bounds on what precedes each measurement.
const (
	settleAtMost = 5 * time.Minute
	forceAtMost  = time.Minute
	warmUpPods   = 40
)

// measureAll starts everything, measures at every size, and ends everything.
func measureAll(ctx context.Context, r *run.Run, p plan, viaAPI bool) (result *report, err error) {
	result = &report{Plan: p, Started: r.Started}
	started, err := r.Start(ctx)
	if err != nil {
		return nil, err
	}
	plane := started.Plane
	defer func() { err = errors.Join(err, plane.Stop()) }()
	result.Machine = started.Machine
	for _, name := range []string{namespaceNone, namespaceEmpty, namespaceOurs, namespacePolicy} {
		if err := plane.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return nil, err
		}
	}
	r.Log("starting the empty webhook and the operator")
	stopEmpty, err := startEmpty(ctx, plane, r.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopEmpty()) }()
	if err := installPolicy(ctx, plane); err != nil {
		return nil, err
	}
	b := &bench{run: r, plane: plane, plan: p, random: rand.New(rand.NewPCG(p.Seed, 0))}
	b.start, err = started.Install(ctx,
		"--exempt-namespace="+namespaceNone, "--exempt-namespace="+namespaceEmpty, "--exempt-namespace="+namespacePolicy)
	if err != nil {
		return nil, err
	}
	if b.operator, err = b.start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.operator.Stop()) }()
	if b.sender, err = newSender(plane.Config); err != nil {
		return nil, err
	}
	seeder, err := cluster.NewSeeder(plane, !viaAPI)
	if err != nil {
		return nil, err
	}
	seeder.Pods = namespaceOurs
	for _, licenses := range p.Sizes {
		size, err := b.measureSize(ctx, seeder, licenses)
		if err != nil {
			return nil, fmt.Errorf("with %d licences: %w", licenses, err)
		}
		result.Sizes = append(result.Sizes, *size)
		if !r.Profiles() {
			continue
		}
		if err := b.profile(ctx, licenses); err != nil {
			return nil, err
		}
	}
	for _, a := range judge(result.Sizes) {
		result.Aims = append(result.Aims, a.JudgedIf(p.isFull()))
	}
	result.Seconds = time.Since(result.Started).Seconds()
	return result, nil
}

// measureSize writes licences until there are so many, and measures once everything is in force.
func (b *bench) measureSize(ctx context.Context, seeder *cluster.Seeder, licenses int) (*sizeReport, error) {
	size := &sizeReport{Licenses: licenses, Grants: licenses * cluster.GrantsPerLicense, NotMeasured: map[string]string{}}
	if err := b.fill(ctx, seeder, size); err != nil {
		return nil, err
	}
	b.run.Log("  written in %.1f s, operator ready after %.1f s and at rest after %.1f s; warming up", size.SeedSeconds, size.ReadySeconds, size.SettleSeconds)
	measurable, err := b.bringIntoForce(ctx, size)
	if err != nil {
		return nil, err
	}
	before, err := gauge.TakeUsage()
	if err != nil {
		return nil, err
	}
	measured, err := b.measure(ctx, measurable)
	if err != nil {
		return nil, err
	}
	after, err := gauge.TakeUsage()
	if err != nil {
		return nil, err
	}
	size.MeasureSeconds, size.ForeignCPUs = after.At.Sub(before.At).Seconds(), after.ForeignSince(before)
	if size.Load, err = gauge.LoadAverages(); err != nil {
		return nil, err
	}
	for i := range measurable {
		v := &measurable[i]
		summary, err := summarise(v, measured[v.Name])
		if err != nil {
			return nil, err
		}
		size.Variants = append(size.Variants, summary)
	}
	size.Memory, err = b.operator.Memory(ctx)
	return size, err
}

// bringIntoForce waits until the newest licence counts and every variant's pods are decided as they must be. The policy
// alone may be beyond what the API server takes; then it is left out, and the size says so.
func (b *bench) bringIntoForce(ctx context.Context, size *sizeReport) ([]variant, error) {
	var measurable []variant
	for _, v := range variants() {
		err := b.sender.warmUp(ctx, &v, warmUpPods, forceAtMost)
		switch {
		case err == nil:
			measurable = append(measurable, v)
		case v.Name == variantPolicy && ctx.Err() == nil:
			size.NotMeasured[v.Name] = err.Error()
		default:
			return nil, fmt.Errorf("%s does not come into force: %w", v.Name, err)
		}
		if v.stored {
			if v.want == withKey {
				if err := b.waitLogged(ctx, v.namespace); err != nil {
					return nil, err
				}
			}
			if err := b.clear(ctx, v.namespace); err != nil {
				return nil, err
			}
		}
	}
	return measurable, b.operator.Settle(ctx, time.Second, settleAtMost)
}

// problems says what went otherwise than it must, so that the figures cannot be trusted.
func (r *report) problems() error {
	var errs []error
	for _, size := range r.Sizes {
		for _, v := range size.Variants {
			if err := v.problem(); err != nil {
				errs = append(errs, fmt.Errorf("%d licences, %s: %w", size.Licenses, v.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (r *variantReport) problem() error {
	if r.Wrong > 0 {
		return fmt.Errorf("%d of %d pods were not decided as they must be, the first: %s", r.Wrong, r.Pods, r.FirstWrong)
	}
	for _, v := range variants() {
		for _, name := range v.webhooks {
			if calls := r.Webhooks[name].Count; v.Name == r.Name && calls < uint64(r.Pods) {
				return fmt.Errorf("the API server called %s %d times for %d pods", name, calls, r.Pods)
			}
		}
	}
	if r.ConditionErrors != 0 {
		return fmt.Errorf("%v evaluations of matchConditions failed", r.ConditionErrors)
	}
	return nil
}

// fill writes licences until there are so many, and waits until the operator has nothing more to do with them. What
// goes into etcd directly is written while the operator is away: it would see licences before their grants, and change
// the status of each to and fro.
func (b *bench) fill(ctx context.Context, seeder *cluster.Seeder, size *sizeReport) error {
	b.run.Log("%d licences: writing", size.Licenses)
	restart := seeder.Copies()
	if restart {
		if err := b.operator.Stop(); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := seeder.Grow(ctx, size.Licenses); err != nil {
		return fmt.Errorf("writing licences and grants: %w", err)
	}
	if err := writeAllowList(ctx, b.plane, size.Licenses); err != nil {
		return fmt.Errorf("writing the policy's list: %w", err)
	}
	size.SeedSeconds = time.Since(start).Seconds()
	start = time.Now()
	if restart {
		started, err := b.start()
		if err != nil {
			return err
		}
		b.operator = started
		size.ReadySeconds = time.Since(start).Seconds()
	}
	err := b.operator.Settle(ctx, time.Second, settleAtMost)
	size.SettleSeconds = time.Since(start).Seconds()
	return err
}
