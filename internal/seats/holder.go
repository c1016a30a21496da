package seats

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Grant is the ModelGrant that a pod has its seat from.
type Grant struct {
	Namespace, Name string
	UID             types.UID
}

// String is NAMESPACE/NAME.
func (g Grant) String() string { return g.Namespace + "/" + g.Name }

// Kind is what kind of seat a pod holds.
type Kind int

// The kinds of seats.
const (
	// Regular seats are within the limits that the ledger carried when they became regular.
	Regular Kind = iota
	// Surge seats are beyond the limits by terms.surge, until SurgeUntil. They become regular as soon as there is room.
	Surge
	// Adopted seats are beyond the limits because the pod ran without one, was resized, or went to a node too many. No key
	// is released for them. They become regular as soon as there is room.
	Adopted
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Surge:
		return "Surge"
	case Adopted:
		return "Adopted"
	default:
		return "Regular"
	}
}

// Holder is a pod that holds a seat.
type Holder struct {
	// Pod is the pod's UID.
	Pod types.UID
	// Grant is the grant that it has the seat from.
	Grant Grant
	// Amount is what the pod counts for, without pods and nodes. It must not be changed.
	Amount corev1.ResourceList
	// Kind is what kind of seat it is.
	Kind Kind
	// Node is the node that the pod is bound to, as far as the ledger knows; empty before.
	Node string
	// Confined is true for a pod that may only be scheduled to nodes that were in use when it took its seat, and so
	// reserves none of its own.
	Confined bool
	// Since is when the pod took its seat, in whole seconds. Usage counts from then.
	Since time.Time
	// Until is when the seat ends by itself, in whole seconds, since the end of the pod cannot be proved; zero where none is
	// set.
	Until time.Time
	// SurgeUntil is when a Surge seat turns into that of a pod which lost its entitlement; zero for other kinds.
	SurgeUntil time.Time
	// Released is true once a key was about to leave for the pod: from then on its end needs proof.
	Released bool
	// Wiped is true where the pod's key was wiped on its node and none was released since.
	Wiped bool
}

// Ended is a holder that has just given its seat back, and what it used.
type Ended struct {
	Holder Holder
	// Usage is what the pod used from Since to the end, rounded down to whole units as v1alpha1.UsageStatus has them. The
	// ledger itself keeps the fractions. Of a pod that was resized, resources are those since it was; what it had used by
	// then is in the ledger's usage already.
	Usage v1alpha1.UsageStatus
}
