package controllers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// sweepPause is the least time between two sweeps, in which changes are gathered.
	sweepPause = 100 * time.Millisecond
	// sweepShare bounds the time that sweeps take: they rest so many times as long as the last one took.
	sweepShare = 9
)

// sweeps gathers what has changed since pods were last gone through: any number of licences cost one sweep of all pods,
// grants and labels of a namespace one of its pods.
type sweeps struct {
	mu         sync.Mutex
	all        bool
	namespaces map[string]bool
	wake       chan struct{}
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

// sweep goes through the cached pods that a change may concern until ctx ends, and adds those that are not settled. It
// runs beside the workers and takes a tenth of a processor at most.
func (r *PodReconciler) sweep(ctx context.Context, add func(reconcile.Request)) {
	for {
		select {
		case <-r.sweeps.wait():
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if err := r.sweepOnce(ctx, add); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Pods cannot be gone through")
		}
		select {
		case <-time.After(max(sweepPause, sweepShare*time.Since(began))):
		case <-ctx.Done():
			return
		}
	}
}

func (r *PodReconciler) sweepOnce(ctx context.Context, add func(reconcile.Request)) error {
	all, namespaces := r.sweeps.take()
	if all {
		var list corev1.NamespaceList
		if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			r.sweeps.needAll()
			return err
		}
		namespaces = namespaces[:0]
		for i := range list.Items {
			namespaces = append(namespaces, list.Items[i].Name)
		}
	}
	for _, namespace := range namespaces {
		if err := r.sweepNamespace(ctx, namespace, add); err != nil {
			r.sweeps.need(namespace)
			return err
		}
	}
	return nil
}

func (r *PodReconciler) sweepNamespace(ctx context.Context, namespace string, add func(reconcile.Request)) error {
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return nil
	}
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, false)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	snapshot, synced := r.Rights.Snapshot()
	for i := range pods.Items {
		if pod := &pods.Items[i]; !synced || isCut(pod) || !r.stand(pod, labels, snapshot).settled() {
			add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return nil
}
