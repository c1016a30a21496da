// Package rights keeps the snapshot of licences and grants in step with the API server, and reads them live where a
// denial must not rest on what may be stale.
package rights

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// Store holds the current snapshot. Changes that informers report are gathered and applied when the snapshot is next
// asked for, so that 100,000 grants at the start cost one pass. It is safe for concurrent use.
type Store struct {
	cached client.Reader
	live   *liveReader

	synced  atomic.Bool
	mu      sync.Mutex
	current *entitlement.Snapshot
	pending entitlement.Changes

	subscribers []func(client.Object)
}

// NewStore returns a store that governs the repositories, patterns as in a licence. Namespaces are read from cached,
// live reads go to api, which must not be cached. The error names a pattern that cannot be parsed.
func NewStore(governed []string, cached, api client.Reader) (*Store, error) {
	empty, err := entitlement.New(governed)
	if err != nil {
		return nil, fmt.Errorf("governed repositories: %w", err)
	}
	s := &Store{cached: cached, current: empty}
	s.live = newLiveReader(api)
	s.resetPending()
	return s, nil
}

// Watch registers the store with the informers for licences and grants. Synced is true once their first lists have
// arrived here. Call it before the cache starts.
func (s *Store) Watch(ctx context.Context, informers cache.Informers) (func(context.Context) error, error) {
	registrations := make([]toolscache.ResourceEventHandlerRegistration, 0, 2)
	for _, object := range []client.Object{&v1alpha1.ModelLicense{}, &v1alpha1.ModelGrant{}} {
		informer, err := informers.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("informer for %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { s.observe(o, false) },
			UpdateFunc: func(old, o any) { s.update(old, o) },
			DeleteFunc: func(o any) { s.observe(o, true) },
		})
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", object, err)
		}
		registrations = append(registrations, registration)
	}
	return func(ctx context.Context) error {
		for _, r := range registrations {
			if !toolscache.WaitForCacheSync(ctx.Done(), r.HasSynced) {
				return fmt.Errorf("waiting for licences and grants: %w", context.Cause(ctx))
			}
		}
		s.synced.Store(true)
		return nil
	}, nil
}

// Snapshot returns what is known now, and whether it is complete: before the first lists have arrived it is not.
func (s *Store) Snapshot() (*entitlement.Snapshot, bool) {
	synced := s.synced.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.Len() > 0 {
		s.current = s.current.Apply(s.pending)
		s.resetPending()
	}
	return s.current, synced
}

// Subscribe calls f with each licence and grant whose spec, or status.images, is written or which is removed from now on,
// once the snapshot takes account of it; for one that is removed, with its last state. F must not modify the object, and
// others wait while it runs.
func (s *Store) Subscribe(f func(client.Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers = append(s.subscribers, f)
}

// Live returns the snapshot with the namespace's grants, and the licences they name, as the API server has them now.
// Calls for one namespace share a read that has not begun; reads are limited in rate. The error means that nothing can
// be said, so that a governed pod must be denied.
func (s *Store) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	snapshot, synced := s.Snapshot()
	if !synced {
		return nil, fmt.Errorf("licences and grants have not been read yet")
	}
	found, err := s.live.read(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return snapshot.Apply(found.changesTo(snapshot, namespace)), nil
}

// NamespaceLabels returns the labels of a namespace, from the cache or, if live, from the API server.
func (s *Store) NamespaceLabels(ctx context.Context, namespace string, live bool) (map[string]string, error) {
	reader := s.cached
	if live {
		reader = s.live.api
	}
	var ns corev1.Namespace
	if err := reader.Get(ctx, client.ObjectKey{Name: namespace}, &ns); err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", namespace, err)
	}
	return ns.Labels, nil
}

// update takes notice of a new state where it bears on decisions.
func (s *Store) update(old, updated any) {
	before, ok1 := old.(client.Object)
	after, ok2 := updated.(client.Object)
	if ok1 && ok2 && same(before, after) {
		return
	}
	s.observe(updated, false)
}

// same says whether two states of a licence or a grant decide alike: they have the same spec, and of the status the same
// images, which digests go by. The rest of the status, and labels, matter to nobody here.
func same(a, b client.Object) bool {
	if a.GetUID() != b.GetUID() || a.GetGeneration() != b.GetGeneration() {
		return false
	}
	l, ok := a.(*v1alpha1.ModelLicense)
	m, also := b.(*v1alpha1.ModelLicense)
	return !ok || !also || slices.EqualFunc(l.Status.Images, m.Status.Images, func(x, y v1alpha1.ResolvedImage) bool {
		return x.Repository == y.Repository && x.Tag == y.Tag && x.Digest == y.Digest && slices.Equal(x.Platforms, y.Platforms)
	})
}

// observe takes notice of an object, and tells subscribers.
func (s *Store) observe(object any, gone bool) {
	object, subscribers := s.take(object, gone)
	if changed, ok := object.(client.Object); ok {
		for _, f := range subscribers {
			f(changed)
		}
	}
}

// take puts an object among the pending changes, and returns it and the subscribers.
func (s *Store) take(object any, gone bool) (any, []func(client.Object)) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := object.(type) {
	case *v1alpha1.ModelLicense:
		s.pending.Licenses[o.Name] = unlessGone(o, gone)
	case *v1alpha1.ModelGrant:
		s.pending.Grants[entitlement.GrantKey{Namespace: o.Namespace, Name: o.Name}] = unlessGone(o, gone)
	}
	return object, s.subscribers
}

func unlessGone[T any](object *T, gone bool) *T {
	if gone {
		return nil
	}
	return object
}

func (s *Store) resetPending() {
	s.pending = entitlement.Changes{
		Licenses: map[string]*v1alpha1.ModelLicense{},
		Grants:   map[entitlement.GrantKey]*v1alpha1.ModelGrant{},
	}
}
