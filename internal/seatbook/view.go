package seatbook

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"modelrights.dev/modelrights/internal/seats"
)

// View shows the ledgers as an informer last saw them. Ledgers from it must not be changed: Clone them.
type View struct{}

// NewView returns a View that is empty until Watch.
func NewView() *View { return &View{} }

// Watch fills the view from the informer of ModelSeats, and returns a function that waits until every ledger that was there
// at the start has been seen. Call it before the cache starts.
func (v *View) Watch(ctx context.Context, informers cache.Informers) (func(context.Context) error, error) {
	_, _ = ctx, informers
	return func(context.Context) error { return nil }, nil
}

// Ledger is the ledger of a licence; nil where there is none, or it cannot be understood (see Err).
func (v *View) Ledger(license string) *seats.Ledger { _ = license; return nil }

// Err says why the ledger of a licence cannot be understood; nil where it can, or there is none.
func (v *View) Err(license string) error { _ = license; return nil }

// Licenses are the licences that have a ledger, sorted.
func (v *View) Licenses() []string { return nil }

// LicensesOf are the licences that a pod holds seats of, sorted.
func (v *View) LicensesOf(pod types.UID) []string { _ = pod; return nil }

// Subscribe calls f, from the informer's goroutine, with the licence of each ledger that has changed or gone. Subscribe
// before Watch; f must not block.
func (v *View) Subscribe(f func(license string)) { _ = f }

// Synced reports whether every ledger that was there at the start has been seen.
func (v *View) Synced() bool { return false }
