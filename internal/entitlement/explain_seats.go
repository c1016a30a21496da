package entitlement

import (
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// SeatExplanation is what a licence or a grant limits, and what its status says of who uses it. The status may be some
// seconds old; pods wait, or are refused, by the ledger.
type SeatExplanation struct {
	// Limits are the limits of its spec.
	Limits corev1.ResourceList `json:"limits,omitempty"`
	// Overage is what happens to pods beyond them; empty for a grant, whose licence says it.
	Overage v1alpha1.OveragePolicy `json:"overage,omitempty"`
	// InUse is pods in use and their limit, as 3/4, and Waiting the number of pods that wait. InUse is empty where the status
	// does not say.
	InUse   string `json:"inUse,omitempty"`
	Waiting int32  `json:"waiting,omitempty"`
}

// explainSeats returns nil where there is nothing to say.
func explainSeats(limits corev1.ResourceList, overage v1alpha1.OveragePolicy, status *v1alpha1.SeatStatus) *SeatExplanation {
	if len(limits) == 0 && status == nil {
		return nil
	}
	e := &SeatExplanation{Limits: limits, Overage: overage}
	if status != nil {
		e.InUse, e.Waiting = status.Summary, status.Waiting
	}
	return e
}
