package protocol

import (
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// MaxLease bounds leases: the longest leaseDuration that a licence can have.
const MaxLease = 24 * time.Hour

// EarlyRenewal is how soon after a renewal another one is early. Kubelet comes every 76 seconds unless the pod was
// changed, as the operator does when the key is to be wiped.
const EarlyRenewal = time.Minute

// Verdict is what becomes of a lease. A driver takes a verdict that it does not know for Keep.
type Verdict string

// Verdicts.
const (
	// Renewed means that the key may stay for LeaseSeconds from when the call was made.
	Renewed Verdict = "Renewed"
	// Keep means that nothing changes: the lease is not longer than it was, and the key stays until it is over.
	Keep Verdict = "Keep"
	// Wipe means that the key is to be wiped now.
	Wipe Verdict = "Wipe"
)

// RenewRequest is the body of a renewal.
type RenewRequest struct {
	// Volume is the volume that holds the key.
	Volume Volume `json:"volume"`
	// Early says that the last renewal was less than EarlyRenewal ago. Such a call may be decided by what the API server
	// has now instead of what is in memory.
	Early bool `json:"early,omitempty"`
}

// RenewResponse is the answer to a renewal.
type RenewResponse struct {
	// Verdict is what becomes of the lease.
	Verdict Verdict `json:"verdict"`
	// LeaseSeconds is set where it is renewed.
	LeaseSeconds int64 `json:"leaseSeconds,omitempty"`
	// Reason is set where it is not.
	Reason v1alpha1.Reason `json:"reason,omitempty"`
	// Message says it in words.
	Message string `json:"message,omitempty"`
}
