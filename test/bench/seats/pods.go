package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/test/bench/cluster"
)

// namespacePods is where pods are that come and go. The first ten licences have a grant there.
const namespacePods = "bench-seats"

// newPod is one of the i-th licence.
func newPod(name string, license int) *corev1.Pod {
	p := cluster.Pod(namespacePods, cluster.Image(license))
	p.Name, p.GenerateName = name, ""
	return p
}

// observer sees when the pods of a namespace lose a gate.
type observer struct {
	namespace, gate string

	mu      sync.Mutex
	ungated map[string]time.Time
	gated   map[string]bool
	changed chan struct{}
	failed  error
}

// observe watches the pods of a namespace until ctx ends.
func observe(ctx context.Context, c client.WithWatch, namespace, gate string) (*observer, error) {
	o := &observer{namespace: namespace, gate: gate, ungated: map[string]time.Time{}, gated: map[string]bool{}, changed: make(chan struct{}, 1)}
	events, err := o.begin(ctx, c)
	if err != nil {
		return nil, err
	}
	go func() {
		for ctx.Err() == nil {
			for event := range events.ResultChan() {
				o.take(event)
			}
			// The API server ends watches that do not keep up.
			if events, err = o.begin(ctx, c); err != nil && ctx.Err() == nil {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.failed = err
				return
			}
		}
	}()
	return o, nil
}

// begin takes all pods as they are, and watches them from then on.
func (o *observer) begin(ctx context.Context, c client.WithWatch) (watch.Interface, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(o.namespace)); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	for i := range list.Items {
		o.take(watch.Event{Type: watch.Modified, Object: &list.Items[i]})
	}
	events, err := c.Watch(ctx, &corev1.PodList{}, client.InNamespace(o.namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	return events, nil
}

func (o *observer) isGated(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == o.gate })
}

func (o *observer) take(event watch.Event) {
	now := time.Now()
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case event.Type == watch.Deleted:
		delete(o.gated, pod.Name)
	case o.isGated(pod):
		o.gated[pod.Name] = true
	default:
		if _, known := o.ungated[pod.Name]; !known {
			o.ungated[pod.Name] = now
		}
		delete(o.gated, pod.Name)
	}
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// wait returns when each of the pods was ungated; an error after ungateAtMost.
func (o *observer) wait(ctx context.Context, names []string) (map[string]time.Time, error) {
	deadline := time.NewTimer(ungateAtMost)
	defer deadline.Stop()
	for {
		seen, waiting, err := o.of(names)
		if err != nil || waiting == 0 {
			return seen, err
		}
		select {
		case <-o.changed:
		case <-deadline.C:
			return nil, fmt.Errorf("%d of %d pods still have the gate after %v", waiting, len(names), ungateAtMost)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (o *observer) of(names []string) (seen map[string]time.Time, waiting int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen = make(map[string]time.Time, len(names))
	for _, name := range names {
		if at, ok := o.ungated[name]; ok {
			seen[name] = at
		} else {
			waiting++
		}
	}
	return seen, waiting, o.failed
}

// createPods creates pods, many at once, and returns when each was asked for. Created, where it is given, gets each of them.
func createPods(ctx context.Context, c client.Client, pods []*corev1.Pod, created func(*corev1.Pod)) (map[string]time.Time, error) {
	var mu sync.Mutex
	asked := make(map[string]time.Time, len(pods))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cluster.Writers)
	for _, pod := range pods {
		group.Go(func() error {
			mu.Lock()
			asked[pod.Name] = time.Now()
			mu.Unlock()
			if err := c.Create(ctx, pod); err != nil {
				return fmt.Errorf("creating pod %s: %w", pod.Name, err)
			}
			if created != nil {
				created(pod)
			}
			return nil
		})
	}
	return asked, group.Wait()
}

// podsOf makes pods of the first licence.
func podsOf(names []string) []*corev1.Pod {
	pods := make([]*corev1.Pod, len(names))
	for i, name := range names {
		pods[i] = newPod(name, 0)
	}
	return pods
}

// clearPods deletes all pods that come and go.
func (b *bench) clearPods(ctx context.Context) error {
	for _, namespace := range []string{namespacePods, namespaceWithout} {
		if err := b.plane.DeletePods(ctx, namespace); err != nil {
			return err
		}
	}
	return b.operator.Settle(ctx, time.Second, settleAtMost)
}

func podNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}
