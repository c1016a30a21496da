package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
	"modelrights.dev/modelrights/test/bench/run"
)

// Metrics of the API server, of 1.32 and later, and of controller-runtime.
const (
	metricPlugins    = "apiserver_admission_controller_admission_duration_seconds"
	metricSteps      = "apiserver_admission_step_admission_duration_seconds"
	metricWebhooks   = "apiserver_admission_webhook_admission_duration_seconds"
	metricConditions = "apiserver_admission_match_condition_evaluation_seconds"
	metricCondErrors = "apiserver_admission_match_condition_evaluation_errors_total"
	metricPolicies   = "apiserver_validating_admission_policy_check_duration_seconds"
	metricRequests   = "controller_runtime_webhook_requests_total"
)

// bench measures: it holds all that runs.
type bench struct {
	run      *run.Run
	plane    *cluster.ControlPlane
	sender   *sender
	operator *cluster.Operator
	// start starts the operator.
	start  func() (*cluster.Operator, error)
	plan   plan
	random *rand.Rand
}

// slice is what one slice of a variant showed.
type slice struct {
	samples []gauge.Sample
	// took is from the moment at which the first pod was due to the last answer.
	took time.Duration
	// before and after are the API server's metrics; calls is what the operator counted of its webhooks.
	before, after gauge.Scrape
	calls         float64
	// cpu is what the operator used, with what it does for stored pods after they were admitted.
	cpu, cpuOver time.Duration
}

// measure runs the slices of all variants that can be measured, and returns them by variant.
func (b *bench) measure(ctx context.Context, all []variant) (map[string][]*slice, error) {
	slices := map[string][]*slice{}
	for i, n := range b.plan.order(len(all), b.random) {
		v := &all[n]
		s, err := b.measureSlice(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("slice %d, of %s: %w", i, v.Name, err)
		}
		slices[v.Name] = append(slices[v.Name], s)
		if (i+1)%(2*len(all)) == 0 {
			b.run.Log("  %d of %d slices", i+1, b.plan.Slices*len(all))
		}
	}
	return slices, nil
}

func (b *bench) measureSlice(ctx context.Context, v *variant) (*slice, error) {
	s := &slice{}
	var err error
	if s.before, err = b.sender.scrape(ctx); err != nil {
		return nil, err
	}
	counted, err := b.webhookCalls(ctx)
	if err != nil {
		return nil, err
	}
	cpu, err := gauge.CPUTime(b.operator.PID())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	pods, interval := b.plan.slice(v)
	s.samples = gauge.Fire(ctx, pods, interval, func(ctx context.Context, i int) error { return b.sender.send(ctx, v, i) })
	s.took = time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if v.stored && v.want == withKey {
		if err := b.waitLogged(ctx, v.namespace); err != nil {
			return nil, err
		}
	}
	used, err := gauge.CPUTime(b.operator.PID())
	if err != nil {
		return nil, err
	}
	s.cpu, s.cpuOver = used-cpu, time.Since(start)
	if s.after, err = b.sender.scrape(ctx); err != nil {
		return nil, err
	}
	if s.calls, err = b.webhookCalls(ctx); err != nil {
		return nil, err
	}
	s.calls -= counted
	if v.stored {
		if err := b.clear(ctx, v.namespace); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// webhookCalls is how many requests the operator's webhooks have answered.
func (b *bench) webhookCalls(ctx context.Context) (float64, error) {
	s, err := b.operator.Scrape(ctx)
	if err != nil {
		return 0, err
	}
	return s.Value(metricRequests, nil), nil
}

// waitLogged waits until the admission of every pod of a namespace is in the audit log.
func (b *bench) waitLogged(ctx context.Context, namespace string) error {
	var missing int
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := b.plane.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		missing = 0
		for i := range pods.Items {
			if !isLogged(&pods.Items[i]) {
				missing++
			}
		}
		return missing == 0, nil
	})
	if err != nil {
		return fmt.Errorf("the admission of %d pods was not logged: %w", missing, err)
	}
	return nil
}

// clear deletes the pods of a namespace, and leaves the operator time to take notice.
func (b *bench) clear(ctx context.Context, namespace string) error {
	if err := b.plane.DeletePods(ctx, namespace); err != nil {
		return err
	}
	return b.operator.Settle(ctx, 200*time.Millisecond, 30*time.Second)
}
