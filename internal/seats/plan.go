package seats

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// ExactPositions is up to which position a waiting pod is told its place; those behind are told that more are before them.
const ExactPositions = 20

// GroupReserve is for how long after its newest seat a group that has begun keeps room for its missing pods.
const GroupReserve = time.Hour

// PlanInput is what the queue is planned from.
type PlanInput struct {
	// Now is the time.
	Now time.Time
	// Ledgers are the ledgers of the licences that pods wait for, by the licence's name, with the limits of today. One that is
	// missing has no room. They are not changed.
	Ledgers map[string]*Ledger
	// Waiting are the gated pods of which ours is the last gate, in any order.
	Waiting []Waiting
	// Groups are the groups that waiting pods belong to and, so that room is kept for their missing pods, those that hold
	// seats and are not complete.
	Groups []GroupState
	// LastTurn is when a pod of a grant last took a seat of a licence; the zero time where that is not known. Optional.
	LastTurn func(license string, grant Grant) time.Time
	// PodName is the NAMESPACE/NAME of a pod that holds a seat, for messages; empty where it is not known. Optional.
	PodName func(types.UID) string
}

// Waiting is a pod that waits for its seats.
type Waiting struct {
	Pod types.UID
	// Name is NAMESPACE/NAME, for messages.
	Name string
	// Priority is spec.priority.
	Priority int32
	// Created is the pod's creationTimestamp.
	Created time.Time
	// Group is the key of the group in PlanInput.Groups; empty for a pod of its own.
	Group string
	// Wants are the seats that it needs, one for each of its licences; all or none are taken.
	Wants []Want
}

// Want is a seat that a waiting pod needs.
type Want struct {
	License     string
	Grant       Grant
	GrantLimits corev1.ResourceList
	// Amount is what the pod counts for: count.AmountOf.
	Amount corev1.ResourceList
	// Surge is as in Take.
	Surge *SurgeFor
}

// GroupState is what is known of a group of pods that start together.
type GroupState struct {
	// Key names the group: group.Group.Key with the namespace.
	Key string
	// Size is how many pods the group has when it is complete; 0 where that is not known.
	Size int
	// Held are the group's pods that hold all their seats.
	Held []types.UID
	// Finished is how many pods of the group have ended and are not to come again.
	Finished int
}

// Allocation is what the plan says of one waiting pod.
type Allocation struct {
	// Pod is the pod's UID, and Index its place in PlanInput.Waiting.
	Pod   types.UID
	Index int
	// Take is true where the pod takes its seats now. Allocations that take come first, in the order in which they do; the
	// others follow in the order in which they wait.
	Take bool
	// Position is the pod's place among those that wait for the same licence, from 1; 0 where it takes, or is too large ever
	// to.
	Position int
	// License is the licence that has no room for it; empty where it takes.
	License string
	// Reason is WaitingForSeat, WaitingForGroup, TooLarge or LedgerFull; empty where it takes.
	Reason v1alpha1.Reason
	// Message is what the pod's condition says.
	Message string
}

// Plan decides which waiting pods take seats now, in which order, and tells the others their place.
//
//   - Grants take turns: the next turn is that of the grant whose pods hold the fewest seats of the licence; of several, of
//     that whose last turn is the longest ago, so that none waits behind all the pods of another for the only seat; then of
//     that whose next pod is the oldest; then the first by name. A pod with several licences has its turn in the first of them
//     by name.
//   - Within a grant, pods go by priority, then by age, then by UID; a group goes where its first pod stands.
//   - A pod takes its seats where all its licences and grants have room, and a group where there is room for all its pods,
//     those that do not exist yet included. A group of known size that has begun keeps what room there is for what is missing of
//     it, for GroupReserve after its newest seat, and those pods go before all others.
//   - The first pod in the order for which a licence has no room keeps all that it wants, in all its licences: so it is not
//     overtaken for ever by those that want less. Each one after it keeps the resource that it lacks from those behind it.
//     Who wants none of that goes on.
//   - A pod for which its grant has no room keeps the resource that it lacks from those behind it in the same grant; other
//     grants do not wait for it. A pod that is too large for the limits keeps nothing.
//
// It takes O(n log n) for n waiting pods, and O(h) for h holders of the licences that they want.
func Plan(in PlanInput) []Allocation {
	p := newPlanner(&in)
	p.reserveForGroups()
	p.enqueue()
	return p.run()
}
