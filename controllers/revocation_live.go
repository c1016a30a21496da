package controllers

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// readShared is for how long a live read speaks for all pods of which the cache says the same.
const readShared = time.Second

// sharedReads reads live what pods are accused by, once for all that a change concerns: a thousand pods lose their grant
// at once. A read is shared by those who ask while the cache stands as it did when it began, so that it never began before
// the change which it is asked about.
type sharedReads struct {
	rights Snapshots
	live   client.Reader
	clock  clock.PassiveClock

	mu         sync.Mutex
	namespaces map[string]*namespaceRead
	nodes      map[string]*nodeRead
}

// namespaceRead is one read of a namespace.
type namespaceRead struct {
	began  time.Time
	cached *entitlement.Snapshot
	labels map[string]string // as cached

	mu        sync.Mutex
	done      bool
	err       error
	snapshot  *entitlement.Snapshot
	live      map[string]string
	confirmed map[string]bool // licences
}

// nodeRead is one read of a node.
type nodeRead struct {
	began  time.Time
	cached map[string]string

	once   sync.Once
	err    error
	known  bool
	labels map[string]string
}

// namespace returns the rights and the labels of a namespace as the API server has them, with the licences that are named.
// Cached and labels are what the cache says now.
func (s *sharedReads) namespace(ctx context.Context, namespace string, cached *entitlement.Snapshot, labels map[string]string, licenses []string) (*entitlement.Snapshot, map[string]string, error) {
	r := s.namespaceRead(namespace, cached, labels)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done {
		r.done = true
		if r.snapshot, r.err = s.rights.Live(ctx, namespace); r.err == nil {
			r.live, r.err = s.rights.NamespaceLabels(ctx, namespace, true)
		}
	}
	for _, name := range licenses {
		if r.err == nil && !r.confirmed[name] {
			r.err = r.confirm(ctx, s.live, name)
		}
	}
	if r.err != nil {
		s.forget(namespace, r)
		return nil, nil, fmt.Errorf("reading licences and grants: %w", r.err)
	}
	return r.snapshot, r.live, nil
}

// confirm puts a licence into the snapshot as it is now. Where no grant names it, Live has not read it.
func (r *namespaceRead) confirm(ctx context.Context, live client.Reader, name string) error {
	var now *v1alpha1.ModelLicense
	var license v1alpha1.ModelLicense
	if err := live.Get(ctx, client.ObjectKey{Name: name}, &license); err == nil {
		now = &license
	} else if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading licence %s: %w", name, err)
	}
	known := r.snapshot.License(name)
	if (known == nil) != (now == nil) || now != nil && (known.UID != now.UID || known.Generation != now.Generation) {
		r.snapshot = r.snapshot.Apply(entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{name: now}})
	}
	r.confirmed[name] = true
	return nil
}

func (s *sharedReads) namespaceRead(namespace string, cached *entitlement.Snapshot, labels map[string]string) *namespaceRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if r := s.namespaces[namespace]; r != nil && r.cached == cached && maps.Equal(r.labels, labels) && isShared(r.began, now) {
		return r
	}
	if s.namespaces == nil {
		s.namespaces = map[string]*namespaceRead{}
	}
	maps.DeleteFunc(s.namespaces, func(_ string, r *namespaceRead) bool { return !isShared(r.began, now) })
	r := &namespaceRead{began: now, cached: cached, labels: labels, confirmed: map[string]bool{}}
	s.namespaces[namespace] = r
	return r
}

// forget makes the next who asks read again.
func (s *sharedReads) forget(namespace string, r *namespaceRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespaces[namespace] == r {
		delete(s.namespaces, namespace)
	}
}

// node returns the labels of a node as the API server has them; false where there is no such node. Cached is what the
// cache says now.
func (s *sharedReads) node(ctx context.Context, name string, cached map[string]string) (map[string]string, bool, error) {
	r := s.nodeRead(name, cached)
	r.once.Do(func() {
		var node corev1.Node
		r.err = s.live.Get(ctx, client.ObjectKey{Name: name}, &node)
		r.known, r.labels, r.err = r.err == nil, node.Labels, client.IgnoreNotFound(r.err)
	})
	if r.err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.nodes, name)
		return nil, false, fmt.Errorf("reading node %s: %w", name, r.err)
	}
	return r.labels, r.known, nil
}

func (s *sharedReads) nodeRead(name string, cached map[string]string) *nodeRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if r := s.nodes[name]; r != nil && maps.Equal(r.cached, cached) && isShared(r.began, now) {
		return r
	}
	if s.nodes == nil {
		s.nodes = map[string]*nodeRead{}
	}
	maps.DeleteFunc(s.nodes, func(_ string, r *nodeRead) bool { return !isShared(r.began, now) })
	r := &nodeRead{began: now, cached: cached}
	s.nodes[name] = r
	return r
}

func isShared(began, now time.Time) bool {
	age := now.Sub(began)
	return age >= 0 && age < readShared
}
