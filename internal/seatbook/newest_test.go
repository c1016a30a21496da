package seatbook

import (
	"context"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestDoBeginsWithWhatIsShown: what another replica wrote costs neither a conflict nor a read once the informer shows it;
// and where the view is behind, what was written here counts.
func TestDoBeginsWithWhatIsShown(t *testing.T) {
	var reads, writes int
	count := interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*v1alpha1.ModelSeats); ok {
				reads++
			}
			return c.Get(ctx, key, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			writes++
			return c.Update(ctx, o, opts...)
		},
	}
	c := world(t, count, acme("9"))
	view := NewView()
	one, other := New(Options{Client: c, Reader: c, View: view}), newBook(c)
	show := func() {
		t.Helper()
		object := &v1alpha1.ModelSeats{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "acme"}, object); err != nil {
			t.Fatal(err)
		}
		view.observe(object)
		reads, writes = 0, 0
	}
	do(t, one, take(1))
	do(t, other, take(2))
	show()
	do(t, one, take(3))
	if reads != 0 || writes != 1 {
		t.Errorf("%d reads and %d writes by what is shown", reads, writes)
	}
	reads, writes = 0, 0
	do(t, one, take(4)) // the view shows no third pod yet
	if reads != 0 || writes != 1 {
		t.Errorf("%d reads and %d writes by what was written", reads, writes)
	}
	do(t, other, take(5))
	if do(t, one, take(6)); ledgerOf(t, c).Len() != 6 {
		t.Errorf("%d hold seats, and 6 took one", ledgerOf(t, c).Len())
	}
	if got := one.Newest("acme").Len(); got != 6 {
		t.Errorf("%d hold seats by what was written last, and 6 do", got)
	}
	do(t, other, take(7))
	show()
	if got := one.Newest("acme").Len(); got != 7 {
		t.Errorf("%d hold seats by the newest that is known, and the view shows 7", got)
	}
	if got := New(Options{Client: c, Reader: c, View: view}).Newest("acme"); got != nil {
		t.Errorf("%d hold seats by what a book wrote that wrote nothing", got.Len())
	}
}

// TestDoWithAStaleView: a ledger that is shown and is not there any more, or is another by now, is read.
func TestDoWithAStaleView(t *testing.T) {
	c := world(t, interceptor.Funcs{}, acme("9"))
	view := NewView()
	b := New(Options{Client: c, Reader: c, View: view})
	view.observe(object(t, "acme", "7", 1, 2))
	if do(t, b, take(3)); ledgerOf(t, c).Len() != 1 {
		t.Errorf("%d hold seats in the new ledger", ledgerOf(t, c).Len())
	}
	shown := object(t, "acme", "99999", 1, 2)
	shown.UID = "another"
	view.observe(shown)
	if do(t, b, take(4)); ledgerOf(t, c).Len() != 2 {
		t.Errorf("%d hold seats, and 2 took one", ledgerOf(t, c).Len())
	}
}
