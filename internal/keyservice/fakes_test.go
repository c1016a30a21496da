package keyservice

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// steps records in which order things happened.
type steps struct {
	mu    sync.Mutex
	names []string
}

func (s *steps) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

func (s *steps) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

// fakeAudit is a log in memory. Append is durable after gate is closed, where there is one, or for one node what hold
// has for it.
type fakeAudit struct {
	mu        sync.Mutex
	steps     *steps
	hold      map[string]chan struct{}
	appended  []audit.Entry
	submitted []audit.Entry
	err       error
	gate      chan struct{}
	begun     chan struct{}
}

func (a *fakeAudit) Append(ctx context.Context, e audit.Entry) (int64, error) {
	if a.gate != nil {
		close(a.begun)
		select {
		case <-a.gate:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	if hold := a.hold[e.Node]; hold != nil {
		a.steps.add("held")
		select {
		case <-hold:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return -1, a.err
	}
	a.appended = append(a.appended, e)
	a.steps.add("durable")
	return int64(len(a.appended)) - 1, nil
}

func (a *fakeAudit) Submit(e audit.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.submitted = append(a.submitted, e)
}

// released is for how many pods of a node there is an entry of a release.
func (a *fakeAudit) released(node string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, e := range a.appended {
		if e.Node == node {
			n++
		}
	}
	return n
}

// countingSource records that a key was fetched.
type countingSource struct {
	keys.Source
	steps *steps
}

func (s countingSource) Fetch(ctx context.Context, l *v1alpha1.ModelLicense, name string) (keys.Material, error) {
	s.steps.add("fetch")
	return s.Source.Fetch(ctx, l, name)
}

// fakeRights are licences and grants as two worlds have them.
type fakeRights struct{ live, cached *world }

func (r fakeRights) Snapshot() (*entitlement.Snapshot, bool) {
	return r.cached.snapshot(), !r.live.unsynced
}

func (r fakeRights) Live(context.Context, string) (*entitlement.Snapshot, error) {
	r.live.countLive("rights")
	if err := r.live.failing["Rights"]; err != nil {
		return nil, err
	}
	return r.live.snapshot(), nil
}

func (r fakeRights) NamespaceLabels(_ context.Context, _ string, live bool) (map[string]string, error) {
	if !live {
		return r.cached.namespace.Labels, r.live.failing["CachedNamespace"]
	}
	r.live.countLive("Namespace")
	return r.live.namespace.Labels, r.live.failing["Namespace"]
}

func (w *world) snapshot() *entitlement.Snapshot {
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	if w.license != nil {
		changes.Licenses[w.license.Name] = w.license
	}
	for _, g := range w.grants {
		changes.Grants[entitlement.GrantKey{Namespace: g.Namespace, Name: g.Name}] = g
	}
	none, _ := entitlement.New(nil)
	return none.Apply(changes)
}

// fakeBook keeps one ledger in memory, for writers and readers alike.
type fakeBook struct {
	mu     sync.Mutex
	steps  *steps
	ledger *seats.Ledger
	// shown is what the cache has of it, where that is not the same.
	shown *seats.Ledger
	err   error
}

// newBook gives each pod its seat, unless the world says otherwise.
func (w *world) newBook(t *testing.T) *fakeBook {
	t.Helper()
	license := builders.License(licenseName).Limits(w.limits...).UID("license-uid").Generation(3).Obj()
	b := &fakeBook{steps: w.steps, ledger: seats.Empty(license), err: w.bookErr}
	changes := w.seats
	if changes == nil {
		for _, p := range append(slices.Clone(w.more), w.pod) {
			if p != nil {
				changes = append(changes, seatFor(p.UID, p.Spec.NodeName)...)
			}
		}
	}
	for _, result := range b.ledger.Apply(changes...) {
		if !result.OK() {
			t.Fatalf("no seat: %+v", result)
		}
	}
	return b
}

// seatFor are the changes by which a pod has a seat, an hour ago.
func seatFor(pod types.UID, node string) []seats.Change {
	changes := []seats.Change{seats.Take{
		Pod: pod, Grant: seats.Grant{Namespace: namespace, Name: "chat", UID: "grant-uid"}, Generation: 3, Since: now.Add(-time.Hour),
	}}
	if node != "" {
		changes = append(changes, seats.Bind{Pod: pod, Node: node})
	}
	return changes
}

func (b *fakeBook) Do(ctx context.Context, _ string, changes ...seats.Change) ([]seats.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, c := range changes {
		b.steps.add(fmt.Sprintf("%T", c))
	}
	next := b.ledger.Clone()
	results := next.Apply(changes...)
	b.ledger = next
	return results, nil
}

func (b *fakeBook) Ledger(license string) *seats.Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	if license != b.ledger.License() {
		return nil
	}
	if b.shown != nil {
		return b.shown
	}
	return b.ledger
}

func (b *fakeBook) holder(pod types.UID) (seats.Holder, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.Holder(pod)
}

// storedSeats is the ledger as the API server has it.
func (w *world) storedSeats(key client.ObjectKey, into *v1alpha1.ModelSeats) error {
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	if key.Name != w.book.ledger.License() {
		return apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("modelseats").GroupResource(), key.Name)
	}
	w.book.ledger.Encode(into)
	return nil
}
