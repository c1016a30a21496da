package controllers

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/internal/seats"
)

// heldSeat is a seat that a pod holds.
type heldSeat struct {
	license string
	holder  seats.Holder
	// terms are what the ledger keeps of the licence's.
	terms seats.Terms
}

// seatsOf lists the seats of a pod, in the order of the licences' names.
func seatsOf(ledgers SeatLedgers, pod types.UID) []heldSeat {
	var held []heldSeat
	for _, license := range ledgers.LicensesOf(pod) {
		if ledger := ledgers.Ledger(license); ledger != nil {
			if holder, ok := ledger.Holder(pod); ok {
				held = append(held, heldSeat{license: license, holder: holder, terms: ledger.Terms()})
			}
		}
	}
	return held
}

// isWiped says whether the ledger knows that a pod has no key of a licence any more: it was wiped, or the pod gave up its
// seat.
func isWiped(ledgers SeatLedgers, license string, pod types.UID) bool {
	ledger := ledgers.Ledger(license)
	if ledger == nil {
		return true
	}
	holder, ok := ledger.Holder(pod)
	return !ok || holder.Wiped
}

// isSurge says whether a pod holds a seat beyond the limits by surge.
func isSurge(ledger *seats.Ledger, pod types.UID) bool {
	holder, ok := ledger.Holder(pod)
	return ok && holder.Kind == seats.Surge
}

// isSurgeOver says whether a pod holds a seat beyond the limits for longer than it may.
func isSurgeOver(h seats.Holder, now time.Time) bool {
	return h.Kind == seats.Surge && !h.SurgeUntil.IsZero() && !now.Before(h.SurgeUntil)
}

// surgeEnds is when the next of the seats beyond the limits is over; zero where there is none.
func surgeEnds(ledger *seats.Ledger, now time.Time) time.Time {
	var next time.Time
	if !ledger.HasBeyond() {
		return next
	}
	for _, h := range ledger.Holders() {
		if h.Kind == seats.Surge && h.SurgeUntil.After(now) && (next.IsZero() || h.SurgeUntil.Before(next)) {
			next = h.SurgeUntil
		}
	}
	return next
}

// namespacesOf lists the namespaces of the pods that hold seats.
func namespacesOf(ledger *seats.Ledger) []string {
	namespaces := map[string]bool{}
	for _, h := range ledger.Holders() {
		namespaces[h.Grant.Namespace] = true
	}
	return slices.Sorted(maps.Keys(namespaces))
}
