package seatbook

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// View shows the ledgers as an informer last saw them, each decoded once for each version of its object. Ledgers from it
// must not be changed: Clone them. It is safe for concurrent use.
type View struct {
	synced atomic.Bool

	mu          sync.RWMutex
	subscribers []func(license string)
	ledgers     map[string]seen
	// holding are the licences that pods hold seats of: nearly always one, and several where they have a place in more.
	holding map[types.UID]string
	more    map[types.UID][]string
}

// seen is a ledger, or why it cannot be understood.
type seen struct {
	version string
	object  *v1alpha1.ModelSeats // the informer's own
	ledger  *seats.Ledger
	err     error
}

// NewView returns a View that is empty until Watch.
func NewView() *View {
	return &View{ledgers: map[string]seen{}, holding: map[types.UID]string{}, more: map[types.UID][]string{}}
}

// Watch fills the view from the informer of ModelSeats, and returns a function that waits until every ledger that was there
// at the start has been seen. Call it before the cache starts.
func (v *View) Watch(ctx context.Context, informers cache.Informers) (func(context.Context) error, error) {
	informer, err := informers.GetInformer(ctx, &v1alpha1.ModelSeats{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("informer for seat ledgers: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    v.observe,
		UpdateFunc: func(_, o any) { v.observe(o) },
		DeleteFunc: v.forget,
	})
	if err != nil {
		return nil, fmt.Errorf("watching seat ledgers: %w", err)
	}
	return func(ctx context.Context) error {
		if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
			return fmt.Errorf("waiting for seat ledgers: %w", context.Cause(ctx))
		}
		v.synced.Store(true)
		return nil
	}, nil
}

// Ledger is the ledger of a licence; nil where there is none, or it cannot be understood (see Err).
func (v *View) Ledger(license string) *seats.Ledger {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ledgers[license].ledger
}

// shown is the ledger of a licence as a write may begin with it; false where there is none that can be understood.
func (v *View) shown(license string) (stored, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.ledgers[license]
	return stored{object: known.object, ledger: known.ledger}, known.ledger != nil
}

// Err says why the ledger of a licence cannot be understood, as ErrUndecodable; nil where it can, or there is none.
func (v *View) Err(license string) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ledgers[license].err
}

// Licenses are the licences that have a ledger, sorted.
func (v *View) Licenses() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]string, 0, len(v.ledgers))
	for name := range v.ledgers {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// LicensesOf are the licences that a pod holds seats of, sorted.
func (v *View) LicensesOf(pod types.UID) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	first, ok := v.holding[pod]
	if !ok {
		return nil
	}
	out := append([]string{first}, v.more[pod]...)
	slices.Sort(out)
	return out
}

// Subscribe calls f, from the informer's goroutine, with the licence of each ledger that has changed or gone from now on,
// once Ledger shows it. f must not block.
func (v *View) Subscribe(f func(license string)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.subscribers = append(slices.Clip(v.subscribers), f)
}

// Synced reports whether every ledger that was there at the start has been seen.
func (v *View) Synced() bool { return v.synced.Load() }

func (v *View) observe(object any) {
	ledger, ok := object.(*v1alpha1.ModelSeats)
	if !ok {
		return
	}
	v.mu.RLock()
	known, ok := v.ledgers[ledger.Name]
	v.mu.RUnlock()
	if ok && known.version == ledger.ResourceVersion && ledger.ResourceVersion != "" {
		return
	}
	next := seen{version: ledger.ResourceVersion, object: ledger}
	if next.ledger, next.err = seats.Decode(ledger); next.err != nil {
		next.err = fmt.Errorf("%w: %w", ErrUndecodable, next.err)
	}
	v.replace(ledger.Name, &next)
}

func (v *View) forget(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if ledger, ok := object.(*v1alpha1.ModelSeats); ok {
		v.replace(ledger.Name, nil)
	}
}

// replace puts a ledger in the place of what was known, and tells the subscribers. Informers call it one at a time.
func (v *View) replace(license string, next *seen) {
	v.mu.Lock()
	before := v.ledgers[license]
	var now *seats.Ledger
	if next == nil {
		delete(v.ledgers, license)
	} else {
		v.ledgers[license] = *next
		now = next.ledger
	}
	gone, come := difference(before.ledger, now)
	for _, pod := range gone {
		v.unhold(pod, license)
	}
	for _, pod := range come {
		v.hold(pod, license)
	}
	subscribers := v.subscribers
	v.mu.Unlock()
	for _, tell := range subscribers {
		tell(license)
	}
}

// difference are the pods that only the first ledger, and only the second holds seats for.
func difference(before, now *seats.Ledger) (gone, come []types.UID) {
	var a, b []types.UID
	if before != nil {
		a = before.Pods()
	}
	if now != nil {
		b = now.Pods()
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			gone, a = append(gone, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			come, b = append(come, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return gone, come
}

func (v *View) hold(pod types.UID, license string) {
	if _, taken := v.holding[pod]; !taken {
		v.holding[pod] = license
		return
	}
	v.more[pod] = append(v.more[pod], license)
}

func (v *View) unhold(pod types.UID, license string) {
	if v.holding[pod] != license {
		v.more[pod] = slices.DeleteFunc(v.more[pod], func(l string) bool { return l == license })
	} else if rest := v.more[pod]; len(rest) > 0 {
		v.holding[pod], v.more[pod] = rest[0], rest[1:]
	} else {
		delete(v.holding, pod)
	}
	if len(v.more[pod]) == 0 {
		delete(v.more, pod)
	}
}
