package controllers

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// bookedSeats are ledgers in memory, and a book that writes them at once.
type bookedSeats struct {
	licenses map[string]*v1alpha1.ModelLicense
	ledgers  map[string]*seats.Ledger
	written  []seats.Change
	of       map[types.UID][]string // nil where a ledger has changed
}

func newBookedSeats(licenses ...*v1alpha1.ModelLicense) *bookedSeats {
	h := &bookedSeats{licenses: map[string]*v1alpha1.ModelLicense{}, ledgers: map[string]*seats.Ledger{}}
	for _, l := range licenses {
		h.licenses[l.Name] = l
	}
	return h
}

func (h *bookedSeats) Ledger(license string) *seats.Ledger { return h.ledgers[license] }
func (h *bookedSeats) Err(string) error                    { return nil }
func (h *bookedSeats) Subscribe(func(string))              {}
func (h *bookedSeats) Synced() bool                        { return true }

func (h *bookedSeats) Licenses() []string {
	var names []string
	for name := range h.ledgers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (h *bookedSeats) LicensesOf(pod types.UID) []string {
	if h.of == nil {
		h.of = map[types.UID][]string{}
		for _, license := range h.Licenses() {
			for _, holder := range h.ledgers[license].Holders() {
				h.of[holder.Pod] = append(h.of[holder.Pod], license)
			}
		}
	}
	return h.of[pod]
}

func (h *bookedSeats) Do(_ context.Context, license string, changes ...seats.Change) ([]seats.Result, error) {
	ledger := h.ledgers[license]
	if ledger == nil {
		ledger = seats.Empty(h.licenses[license])
		ledger.Apply(seats.Limit{License: h.licenses[license], Confirmed: true})
	} else {
		ledger = ledger.Clone()
	}
	h.written = append(h.written, changes...)
	h.ledgers[license], h.of = ledger, nil
	return ledger.Apply(changes...), nil
}

func (h *bookedSeats) Drop(context.Context, string) (bool, error) { return false, nil }

func (h *bookedSeats) Newest(license string) *seats.Ledger { return h.ledgers[license] }

// allocatorOf takes seats in ledgers.
func allocatorOf(h *bookedSeats) *SeatAllocator {
	return &SeatAllocator{Queue: NewSeatQueue(), Ledgers: h, Book: h, Clock: testingclock.NewFakePassiveClock(noon)}
}

// noSeats is an allocator of which no ledger is there.
func noSeats() *SeatAllocator { return allocatorOf(newBookedSeats()) }
