package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/test/bench/cluster"
)

// What the API server can do without modelrights: pods of no model, with somebody else's gate, in a namespace that is exempt
// from our webhooks. Direct clients write of each what the operator would, a condition and the gate's removal, and know
// without asking anybody that they may.
const (
	namespaceWithout = "bench-without"
	gateWithout      = "example.com/hold"
	conditionWithout = "example.com/Held"
)

// podsWithout makes pods that are as ours but for the model and the gate.
func podsWithout(names []string) []*corev1.Pod {
	pods := make([]*corev1.Pod, len(names))
	for i, name := range names {
		p := cluster.Pod(namespaceWithout, cluster.Registry+"/web/shop:1.4.2")
		p.Name, p.GenerateName = name, ""
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: gateWithout}}
		pods[i] = p
	}
	return pods
}

// burstWithout is burst without modelrights: pods are ungated as they come.
func (b *bench) burstWithout(ctx context.Context, turn string, seen *observer) (*allocation, error) {
	names := podNames("burst-"+turn, b.plan.Burst)
	return b.without(ctx, "burst-without-"+turn, "all created at once, without modelrights", func() (map[string]time.Time, map[string]time.Time, error) {
		created := make(chan *corev1.Pod, len(names))
		var writers errgroup.Group
		writers.Go(func() error { return b.release(ctx, created) })
		asked, err := createPods(ctx, b.plane.Client, podsWithout(names), func(p *corev1.Pod) { created <- p })
		close(created)
		if releaseErr := writers.Wait(); err == nil {
			err = releaseErr
		}
		if err != nil {
			return nil, nil, err
		}
		ungated, err := seen.wait(ctx, names)
		return asked, ungated, err
	})
}

// queuedWithout is queued without modelrights: pods that are there already are ungated.
func (b *bench) queuedWithout(ctx context.Context, turn string, seen *observer) (*allocation, error) {
	names := podNames("queued-"+turn, b.plan.Burst)
	waiting := make(chan *corev1.Pod, len(names))
	if _, err := createPods(ctx, b.plane.Client, podsWithout(names), func(p *corev1.Pod) { waiting <- p }); err != nil {
		return nil, err
	}
	close(waiting)
	return b.without(ctx, "queued-without-"+turn, "all waiting, without modelrights", func() (map[string]time.Time, map[string]time.Time, error) {
		start := time.Now()
		since := make(map[string]time.Time, len(names))
		for _, name := range names {
			since[name] = start
		}
		if err := b.release(ctx, waiting); err != nil {
			return nil, nil, err
		}
		ungated, err := seen.wait(ctx, names)
		return since, ungated, err
	})
}

func (b *bench) without(ctx context.Context, name, about string, f func() (since, ungated map[string]time.Time, err error)) (*allocation, error) {
	a, err := b.allocation(ctx, name, about, f)
	if err != nil {
		return nil, err
	}
	a.Without = true
	return a, nil
}

// release sets the condition of each pod and takes its gate away, by as many clients as create pods, until there are no more.
func (b *bench) release(ctx context.Context, pods <-chan *corev1.Pod) error {
	group, ctx := errgroup.WithContext(ctx)
	for range cluster.Writers {
		group.Go(func() error {
			var failed error
			for pod := range pods { // to the end, so that nobody waits to hand one over
				if failed == nil {
					failed = releasePod(ctx, b.direct, pod)
				}
			}
			return failed
		})
	}
	return group.Wait()
}

// releasePod makes the two patches that the operator makes, each for the pod as it was read.
func releasePod(ctx context.Context, c client.Client, pod *corev1.Pod) error {
	status, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: conditionWithout, Status: corev1.ConditionTrue, Reason: "Released", LastTransitionTime: metav1.Now(),
			Message: strings.Repeat("as long as ours ", 12),
		}}},
	})
	if err != nil {
		return err
	}
	if err := c.Status().Patch(ctx, pod, client.RawPatch(types.StrategicMergePatchType, status)); err != nil {
		return fmt.Errorf("setting the condition of pod %s: %w", pod.Name, err)
	}
	gate, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"spec":     map[string]any{"schedulingGates": nil},
	})
	if err != nil {
		return err
	}
	if err := c.Patch(ctx, pod, client.RawPatch(types.MergePatchType, gate)); err != nil {
		return fmt.Errorf("removing the gate of pod %s: %w", pod.Name, err)
	}
	return nil
}
