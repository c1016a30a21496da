package seatbook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

var (
	now  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	chat = seats.Grant{Namespace: "ml", Name: "chat", UID: "grant-uid"}
)

func pod(n int) types.UID { return types.UID(fmt.Sprintf("0c0ffee0-0000-4000-8000-%012x", n)) }

func acme(pods string) *v1alpha1.ModelLicense {
	return builders.License("acme").Repository("registry.example.com/models/chat").UID("license-1").Generation(1).
		Limits("pods", pods).Obj()
}

func take(n int) seats.Take { return seats.Take{Pod: pod(n), Grant: chat, Generation: 1, Since: now} }

// world is an API server in memory with a licence; funcs come between.
func world(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()
}

func newBook(c client.Client) *Book { return New(Options{Client: c, Reader: c}) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func do(t *testing.T, b *Book, changes ...seats.Change) []seats.Result {
	t.Helper()
	results, err := b.Do(within(t, time.Minute), "acme", changes...)
	if err != nil {
		t.Fatalf("%+v: %v", changes, err)
	}
	if len(results) != len(changes) {
		t.Fatalf("%d changes, %d results", len(changes), len(results))
	}
	return results
}

func ledgerOf(t *testing.T, c client.Reader) *seats.Ledger {
	t.Helper()
	object := &v1alpha1.ModelSeats{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, object); err != nil {
		t.Fatal(err)
	}
	l, err := seats.Decode(object)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDoMakesTheLedger(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("1"))
	b := newBook(c)
	results := do(t, b, take(1), take(2))
	if !results[0].OK() || results[1].Reason != v1alpha1.ReasonWaitingForSeat {
		t.Errorf("%+v", results)
	}
	if l := ledgerOf(t, c); l.Len() != 1 || l.LicenseUID() != "license-1" {
		t.Errorf("%d holders for %s", l.Len(), l.LicenseUID())
	}
	if r := do(t, b, seats.End{Pod: pod(1), At: now.Add(time.Minute)})[0]; r.Ended == nil || r.Ended.Usage.PodSeconds != 60 {
		t.Errorf("%+v", r)
	}
}

func TestDoWithoutALedger(t *testing.T) {
	created := 0
	c := world(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		created++
		return c.Create(ctx, o, opts...)
	}})
	b := newBook(c)
	for want, changes := range map[v1alpha1.Reason][]seats.Change{
		"":                            {seats.End{Pod: pod(1), At: now}, seats.GiveBack{Pod: pod(1)}},
		v1alpha1.ReasonNoSeat:         {seats.Release{Pod: pod(1), Node: "n"}, seats.Bind{Pod: pod(1), Node: "n"}, seats.Wipe{Pod: pod(1)}, seats.Renew{Pod: pod(1)}},
		v1alpha1.ReasonLicenseMissing: {take(1), seats.Adopt{Pod: pod(1), Grant: chat}, seats.Limit{License: acme("1")}},
	} {
		for i, r := range do(t, b, changes...) {
			if r.Reason != want || r.Changed {
				t.Errorf("%T: %+v", changes[i], r)
			}
		}
	}
	if created > 0 {
		t.Error("a ledger was made though there is no licence")
	}
}

// TestTwoBooksNeverExceed: two operators that both believe they lead take the same few seats.
func TestTwoBooksNeverExceed(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("5"))
	registry := prometheus.NewRegistry()
	books := []*Book{New(Options{Client: c, Reader: c, Registerer: registry}), newBook(c)}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			for _, b := range books { // both for the same pod
				if do(t, b, take(n))[0].Changed {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if l := ledgerOf(t, c); l.Len() != 5 || taken.Load() != 5 {
		t.Errorf("%d holders of 5 seats, %d took one", l.Len(), taken.Load())
	}
	if families, err := registry.Gather(); err != nil || len(families) != 3 { // conflicts, duration, batch
		t.Errorf("%d metrics, %v", len(families), err)
	}
}

// TestCallersShareWrites: what comes while a write is under way goes into the next one together.
func TestCallersShareWrites(t *testing.T) {
	var writes atomic.Int64
	hold := make(chan struct{})
	c := world(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		writes.Add(1)
		<-hold
		return c.Create(ctx, o, opts...)
	}, Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		writes.Add(1)
		return c.Update(ctx, o, opts...)
	}}, acme("500"))
	b := newBook(c)
	var wg sync.WaitGroup
	wg.Go(func() { do(t, b, take(0)) })
	eventually(t, func() bool { return writes.Load() == 1 })
	for n := range 200 {
		wg.Go(func() { do(t, b, take(1+n)) })
	}
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.queues["acme"].waiting) == 200
	})
	close(hold)
	wg.Wait()
	if l := ledgerOf(t, c); l.Len() != 201 || writes.Load() != 2 {
		t.Errorf("%d holders in %d writes", l.Len(), writes.Load())
	}
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.queues) == 0
	})
}

// TestNoAnswerFromMemory: that nothing has to change, or that there is no room, is said only of the ledger that is stored.
func TestNoAnswerFromMemory(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("1"))
	mine, other := newBook(c), newBook(c)
	do(t, mine, take(1))
	do(t, other, seats.End{Pod: pod(1), At: now.Add(time.Second)})
	if r := do(t, mine, seats.Release{Pod: pod(1), Node: "n"})[0]; r.Reason != v1alpha1.ReasonNoSeat {
		t.Errorf("a key for a pod whose seat has ended: %+v", r)
	}
	do(t, other, take(2))
	if r := do(t, mine, seats.End{Pod: pod(2), At: now.Add(time.Minute)})[0]; r.Ended == nil {
		t.Errorf("a seat that another gave is not ended: %+v", r)
	}
	do(t, mine, take(3))
	do(t, other, seats.End{Pod: pod(3), At: now})
	if r := do(t, mine, take(4))[0]; !r.OK() {
		t.Errorf("a seat that another freed is not free: %+v", r)
	}
}

// TestWritesWithoutAnAnswer: a write that was stored, though its answer was lost, is not done twice.
func TestWritesWithoutAnAnswer(t *testing.T) {
	var lost atomic.Int64
	after := func(err error) error {
		if err == nil && lost.Add(1)%2 == 1 {
			return apierrors.NewTimeoutError("the answer was lost", 1)
		}
		return err
	}
	c := world(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		return after(c.Create(ctx, o, opts...))
	}, Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		return after(c.Update(ctx, o, opts...))
	}}, acme("9"))
	b := newBook(c)
	for n := range 4 {
		do(t, b, take(n))
		do(t, b, seats.End{Pod: pod(n), At: now.Add(time.Minute)})
	}
	if l := ledgerOf(t, c); l.Len() != 0 || l.Usage(now).PodSeconds != 4*60 {
		t.Errorf("%d holders, usage %+v", l.Len(), l.Usage(now))
	}
}

func TestFailures(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "modelseats"}, "acme", errors.New("no"))
	tests := map[string]struct {
		err    error
		within time.Duration
		want   error
		soon   bool
	}{
		"refused for good":       {forbidden, time.Minute, forbidden, true},
		"not reachable for long": {errors.New("connection refused"), 200 * time.Millisecond, context.DeadlineExceeded, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := world(t, interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
				return test.err
			}}, acme("1"))
			b := newBook(c)
			begun := time.Now()
			_, err := b.Do(within(t, test.within), "acme", take(1))
			if !errors.Is(err, ErrNotStored) || !errors.Is(err, test.want) || test.soon && time.Since(begun) > 30*time.Second {
				t.Errorf("after %s: %v", time.Since(begun), err)
			}
			eventually(t, func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.queues) == 0
			})
		})
	}
}

// TestAbandonedChangesAreNotBegun: who went before the write began has changed nothing.
func TestAbandonedChangesAreNotBegun(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	c := world(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		begun <- struct{}{}
		<-hold
		return c.Create(ctx, o, opts...)
	}}, acme("9"))
	b := newBook(c)
	var wg sync.WaitGroup
	wg.Go(func() { do(t, b, take(1)) })
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := b.Do(ctx, "acme", take(2)); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.queues["acme"].waiting) == 1
	})
	cancel()
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.queues["acme"].waiting[0].abandoned.Load()
	})
	close(hold)
	wg.Wait()
	do(t, b, take(3))
	if l := ledgerOf(t, c); l.Len() != 2 {
		t.Errorf("%d holders", l.Len())
	}
}

func TestHandEditedLedgerIsLeftAlone(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("1"))
	b := newBook(c)
	do(t, b, take(1))
	object := &v1alpha1.ModelSeats{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, object); err != nil {
		t.Fatal(err)
	}
	object.Spec.Holders[0] += "!"
	if err := c.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := b.Do(within(t, time.Minute), "acme", take(2))
		if !errors.Is(err, ErrUndecodable) || !strings.Contains(err.Error(), "spec.holders[0]") {
			t.Errorf("error %v", err)
		}
	}
	after := &v1alpha1.ModelSeats{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, after); err != nil || after.ResourceVersion != object.ResourceVersion {
		t.Errorf("%v: it was written", err)
	}
	if err := c.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	do(t, b, take(2))
}

// TestADeletedLicenceDoesNotComeBack: a replica that still knows it cannot count the ledger by it again.
func TestADeletedLicenceDoesNotComeBack(t *testing.T) {
	old, anew := acme("9"), acme("2")
	old.Generation, anew.UID = 7, "license-2"
	c := world(t, interceptor.Funcs{}, anew)
	b := newBook(c)
	do(t, b, seats.Limit{License: anew}, take(5))
	stale := take(1)
	stale.Generation = 7
	results := do(t, b, seats.Limit{License: old}, stale)
	if !results[0].Stale || !results[1].Stale {
		t.Errorf("%+v", results)
	}
	if err := c.Delete(t.Context(), anew); err != nil {
		t.Fatal(err)
	}
	third := acme("3")
	third.UID, third.ResourceVersion = "license-3", ""
	if err := c.Create(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if r := do(t, b, seats.Limit{License: anew})[0]; r.Changed {
		t.Errorf("%+v", r)
	}
	if r := do(t, b, seats.Limit{License: third})[0]; !r.Changed {
		t.Errorf("%+v", r)
	}
	if got := ledgerOf(t, c).Limits()[corev1.ResourcePods]; got.String() != "3" {
		t.Errorf("%s pods", got.String())
	}
}

// TestLedgerOfAGenerationThatIsNotThere: a ledger that somebody made newer than its licence follows the licence again; one
// that is newer than a replica's cache stays as it is.
func TestLedgerOfAGenerationThatIsNotThere(t *testing.T) {
	live, old := acme("2"), acme("9")
	live.Generation = 4
	c := world(t, interceptor.Funcs{}, live)
	b := newBook(c)
	first, next := take(2), take(1)
	first.Generation, next.Generation = 4, 4
	do(t, b, seats.Limit{License: live}, first)
	for range 2 {
		if r := do(t, b, seats.Limit{License: old})[0]; !r.Stale || r.Changed {
			t.Errorf("an old licence: %+v", r)
		}
	}
	object := &v1alpha1.ModelSeats{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, object); err != nil {
		t.Fatal(err)
	}
	object.Spec.LicenseGeneration = 1 << 40
	if err := c.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	results := do(t, newBook(c), seats.Limit{License: live}, next)
	if results[0].Stale || !results[0].Changed || !results[1].OK() {
		t.Errorf("%+v", results)
	}
	if l := ledgerOf(t, c); l.Generation() != 4 || l.Len() != 2 {
		t.Errorf("generation %d, %d seats", l.Generation(), l.Len())
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, object); err != nil {
		t.Fatal(err)
	}
	object.Spec.LicenseGeneration = 1 << 41
	if err := c.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	do(t, b, seats.Limit{License: old})
	l := ledgerOf(t, c)
	if got := l.Limits()[corev1.ResourcePods]; l.Generation() != 4 || got.String() != "2" {
		t.Errorf("generation %d, %s pods, want those of the licence as it is", l.Generation(), got.String())
	}
}

func TestDrop(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("1"))
	b := newBook(c)
	drop := func(want bool) {
		t.Helper()
		if gone, err := b.Drop(t.Context(), "acme"); gone != want || err != nil {
			t.Errorf("gone %v, %v", gone, err)
		}
	}
	drop(true)
	do(t, b, take(1))
	drop(false)
	do(t, b, seats.End{Pod: pod(1), At: now})
	drop(true)
	do(t, b, take(2)) // begins anew
	if l := ledgerOf(t, c); l.Len() != 1 {
		t.Errorf("%d holders", l.Len())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(2)
	for _, license := range []string{"a", "b", "a", "c"} {
		m.put(license, stored{})
	}
	_, a := m.get("a")
	_, b := m.get("b")
	_, c := m.get("c")
	if !a || b || !c || m.order.Len() != 2 {
		t.Errorf("a %v, b %v, c %v, %d", a, b, c, m.order.Len())
	}
	m.forget("a")
	if _, ok := m.get("a"); ok || m.order.Len() != 1 {
		t.Error("it is not forgotten")
	}
}

// eventually waits for a condition that others bring about.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	gomega.NewWithT(t).Eventually(condition).WithTimeout(time.Minute).WithPolling(time.Millisecond).Should(gomega.BeTrue())
}
