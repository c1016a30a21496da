package controllers

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// queueState is where a pod is on its way.
type queueState int

const (
	// seatBehindGates: the gates of others hold the pod back too.
	seatBehindGates queueState = iota
	// seatInQueue: it waits for its seats.
	seatInQueue
	// seatTaking: it is about to have them, or has them and its gate is about to be removed.
	seatTaking
	// seatHeld: it has no gate (any more) and is to hold its seats.
	seatHeld
	// seatFinished: it has ended well, and is remembered for its group.
	seatFinished
)

// seatNeed is a seat that a pod needs.
type seatNeed struct {
	license *v1alpha1.ModelLicense
	grant   *v1alpha1.ModelGrant
	// amount is what the pod counts for.
	amount corev1.ResourceList
}

func (n seatNeed) seatGrant() seats.Grant {
	return seats.Grant{Namespace: n.grant.Namespace, Name: n.grant.Name, UID: n.grant.UID}
}

// sameNeeds says whether two lists of needs are for the same seats, by the same terms.
func sameNeeds(a, b []seatNeed) bool {
	return slices.EqualFunc(a, b, func(x, y seatNeed) bool {
		return x.license.UID == y.license.UID && x.license.Generation == y.license.Generation &&
			x.grant.UID == y.grant.UID && x.grant.Generation == y.grant.Generation && sameAmount(x.amount, y.amount)
	})
}

// sameSeats says whether two lists of needs are for the same seats: whoever has those of one has those of the other.
func sameSeats(a, b []seatNeed) bool {
	return slices.EqualFunc(a, b, func(x, y seatNeed) bool {
		return x.license.UID == y.license.UID && x.grant.UID == y.grant.UID && sameAmount(x.amount, y.amount)
	})
}

func sameAmount(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, sameQuantity) || seats.SameAmount(a, b)
}

// allocation are seats that a gated pod has.
type allocation struct {
	// version is the resourceVersion of the pod that was read before the first ledger was written; empty where there is none
	// such, so that pod and ledgers must be read anew.
	version string
	// confine lists the nodes that the pod is to be confined to, a list for each licence that asks for it.
	confine [][]string
	// taken are the seats.
	taken []seatNeed
	// withdrawn says that the pod was not to start, and that somebody may be giving them back.
	withdrawn bool
}

// verdict is what a waiting pod is told.
type verdict struct {
	reason  v1alpha1.Reason
	message string
	// position is its place, 0 where it has none, and -1 where reason and message stand in the pod's condition and nothing
	// else is known.
	position int
	// passing says that other pods took seats in the same round: what is said of who has them is over in a moment.
	passing bool
}

// queuedPod is a pod that waits for seats, or is to hold them.
type queuedPod struct {
	name  types.NamespacedName
	uid   types.UID
	state queueState

	created  time.Time
	priority int32
	// ending says that it is being deleted, lost that it lacks a seat and its node cannot be counted on.
	ending, lost bool
	// owner and revision are as rolloutOf has them.
	owner, revision string
	// group is the key of its group with the namespace, empty for a pod of its own; groupSize its size, 0 if not known.
	group     string
	groupSize int
	// needs are ordered by the licence's name.
	needs []seatNeed

	// allocation is set while the pod has its seats and its gate.
	allocation *allocation
	// mayHold says that it was put back into the queue when it had taken seats, or tried to: the view may not show them yet.
	mayHold bool
	// partial says that it may hold some seats that it needs, and is to give them back.
	partial bool
	// due is what it is to be told, since dueSince; asked what a worker was last asked to tell it, told what it was told.
	due, asked, told verdict
	dueSince         time.Time
}

// SeatQueue knows which pods wait for seats, and which are to hold one. The pod controller tells it, so that nobody has to
// go through all pods; only the leader's is filled. It is safe for concurrent use.
type SeatQueue struct {
	mu       sync.Mutex
	pods     map[types.NamespacedName]*queuedPod
	byUID    map[types.UID]*queuedPod
	licenses map[string]map[types.UID]*queuedPod
	owners   map[string]map[types.UID]*queuedPod
	groups   map[string]map[types.UID]*queuedPod
	// waiting are the pods that wait, for seats or for others' gates; underway those that are taking their seats.
	waiting, underway map[types.UID]*queuedPod
	// complete says that every pod that there was at the start is here: before, it is not known who runs without a seat.
	complete bool
	// changed are the licences of which something has changed since they were last planned.
	changed     map[string]bool
	subscribers []func(license string)
	wake        chan struct{}
}

// NewSeatQueue returns an empty queue.
func NewSeatQueue() *SeatQueue {
	return &SeatQueue{
		pods: map[types.NamespacedName]*queuedPod{}, byUID: map[types.UID]*queuedPod{},
		licenses: map[string]map[types.UID]*queuedPod{}, owners: map[string]map[types.UID]*queuedPod{}, groups: map[string]map[types.UID]*queuedPod{},
		waiting: map[types.UID]*queuedPod{}, underway: map[types.UID]*queuedPod{},
		changed: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// WaitingSeats is what waits under a grant.
type WaitingSeats struct {
	// Pods is how many pods wait.
	Pods int
	// Resources is what they request together.
	Resources corev1.ResourceList
}

// Subscribe calls f with each licence of which what waits may have changed. F must neither block nor call the queue.
func (q *SeatQueue) Subscribe(f func(license string)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.subscribers = append(q.subscribers, f)
}

// Waiting says what waits for seats of a licence, by grant. Pods that other gates hold back too do not count.
func (q *SeatQueue) Waiting(license string) map[seats.Grant]WaitingSeats {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := map[seats.Grant]WaitingSeats{}
	for _, p := range q.licenses[license] {
		if p.state != seatInQueue && p.state != seatTaking {
			continue
		}
		for _, n := range p.needs {
			if n.license.Name != license {
				continue
			}
			w := all[n.seatGrant()]
			if w.Resources == nil {
				w.Resources = corev1.ResourceList{}
			}
			w.Pods++
			for name, quantity := range n.amount {
				sum := w.Resources[name]
				sum.Add(quantity)
				w.Resources[name] = sum
			}
			all[n.seatGrant()] = w
		}
	}
	return all
}

// PodOf is the pod of a UID that waits for a seat or is to hold one.
func (q *SeatQueue) PodOf(uid types.UID) (types.NamespacedName, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil {
		return p.name, true
	}
	return types.NamespacedName{}, false
}
