package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
)

const (
	// sweepPause is the least time between two sweeps, in which changes are gathered; copySweepPause between two for
	// copies, since what is known of licensed images is renewed time and again.
	sweepPause     = 100 * time.Millisecond
	copySweepPause = 5 * time.Second
	// sweepShare bounds the time that sweeps take: they rest so many times as long as the last one took.
	sweepShare = 9
	// maxKnownImages bounds the images of which it is remembered whether they are governed.
	maxKnownImages = 1 << 17
)

// sweeps gathers what has changed since pods were last gone through: any number of licences cost one sweep of all pods,
// grants and labels of a namespace one of its pods.
type sweeps struct {
	mu         sync.Mutex
	all        bool
	namespaces map[string]bool
	wake       chan struct{}
	// swept, where it is set, is called once when all pods have been gone through. Only run's goroutine uses it and whole,
	// which says that all namespaces were asked for since: those that fail are asked for again.
	swept func()
	whole bool
}

// changed takes notice of a licence or grant.
func (s *sweeps) changed(o client.Object) {
	switch o := o.(type) {
	case *v1alpha1.ModelGrant:
		s.need(o.Namespace)
	case *v1alpha1.ModelLicense:
		s.needAll()
	}
}

// need asks for a sweep of the pods of a namespace.
func (s *sweeps) need(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespaces == nil {
		s.namespaces = map[string]bool{}
	}
	s.namespaces[namespace] = true
	s.signal()
}

// needAll asks for a sweep of all pods.
func (s *sweeps) needAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
	s.signal()
}

func (s *sweeps) signal() {
	select {
	case s.waken() <- struct{}{}:
	default:
	}
}

func (s *sweeps) waken() chan struct{} {
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	return s.wake
}

// wait returns a channel that has an element when there is something to do.
func (s *sweeps) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waken()
}

// take returns what is asked for, and begins anew.
func (s *sweeps) take() (all bool, namespaces []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, namespaces = s.all, slices.Sorted(maps.Keys(s.namespaces))
	s.all, s.namespaces = false, nil
	return all, namespaces
}

// run goes through the cached pods that are asked for until ctx ends, a namespace at a time. It rests in between, so that
// it takes a tenth of a processor at most.
func (s *sweeps) run(ctx context.Context, pods client.Reader, pause time.Duration, visit func(ctx context.Context, namespace string, pods []corev1.Pod) error) {
	for {
		select {
		case <-s.wait():
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if err := s.once(ctx, pods, visit); err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "Pods cannot be gone through")
		}
		select {
		case <-time.After(max(pause, sweepShare*time.Since(began))):
		case <-ctx.Done():
			return
		}
	}
}

func (s *sweeps) once(ctx context.Context, reader client.Reader, visit func(ctx context.Context, namespace string, pods []corev1.Pod) error) error {
	all, namespaces := s.take()
	if all {
		var list corev1.NamespaceList
		if err := reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			s.needAll()
			return fmt.Errorf("listing namespaces: %w", err)
		}
		namespaces = namespaces[:0]
		for i := range list.Items {
			namespaces = append(namespaces, list.Items[i].Name)
		}
	}
	var errs []error
	s.whole = s.whole || all
	defer func() {
		if s.whole && len(errs) == 0 && s.swept != nil {
			s.swept()
			s.swept = nil
		}
	}()
	for _, namespace := range namespaces {
		var pods corev1.PodList
		err := reader.List(ctx, &pods, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)
		if err == nil && len(pods.Items) > 0 {
			err = client.IgnoreNotFound(visit(ctx, namespace, pods.Items))
		}
		if err != nil {
			s.need(namespace)
			errs = append(errs, fmt.Errorf("namespace %s: %w", namespace, err))
		}
	}
	return errors.Join(errs...)
}

// visit adds the pods of a namespace that are not settled.
func (r *PodReconciler) visit(ctx context.Context, namespace string, pods []corev1.Pod, add func(reconcile.Request)) error {
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, false)
	if err != nil {
		return err
	}
	snapshot, synced := r.Rights.Snapshot()
	if r.governed.snapshot != snapshot || len(r.governed.known) > maxKnownImages {
		r.governed = governedImages{snapshot: snapshot, known: map[string]bool{}}
	}
	if !synced {
		return errNotSynced
	}
	for i := range pods {
		pod := &pods[i]
		if !r.isInOrder(pod, labels, snapshot) {
			add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return nil
}

// errNotSynced makes a sweep come again.
var errNotSynced = errors.New("licences and grants have not been read yet")

// isInOrder says whether there is nothing to be done about a cached pod, and tells the queue of it.
func (r *PodReconciler) isInOrder(pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) bool {
	switch {
	case isGated(pod):
		return r.keepsWaiting(pod, labels, snapshot)
	case r.governed.spare(pod):
		return !r.Seats.Queue.drop(client.ObjectKeyFromObject(pod))
	}
	s := r.stand(pod, labels, snapshot)
	r.observe(pod, s)
	return !isCut(pod) && s.settled() && r.isSeated(pod, s)
}

// governedImages remembers which images a snapshot governs, since nearly all pods share theirs with others and use none
// that is governed.
type governedImages struct {
	snapshot *entitlement.Snapshot
	known    map[string]bool
}

// spare says whether a pod is settled for the reason that nothing of it is governed, and nothing was said of it before.
func (g *governedImages) spare(pod *corev1.Pod) bool {
	if isCut(pod) || conditionOf(pod, v1alpha1.PodConditionLicensed) != nil || images.NamesSchemes(&pod.Spec) {
		return false
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil && g.has(v.Reference) {
			return false
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if g.has(containers[i].Image) {
				return false
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if g.has(pod.Spec.EphemeralContainers[i].Image) {
			return false
		}
	}
	return true
}

func (g *governedImages) has(image string) bool {
	governed, known := g.known[image]
	if !known {
		governed = image != "" && entitlement.Decide(entitlement.Request{Image: image}, g.snapshot, time.Time{}).Governed()
		g.known[image] = governed
	}
	return governed
}
