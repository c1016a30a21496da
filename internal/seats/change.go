package seats

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Change is something that happens to a ledger: one of the structs of this file. Each is idempotent.
type Change interface {
	apply(l *Ledger) Result
}

// Result is what came of a Change.
type Result struct {
	// Reason says why the change was not carried out; empty where it was, or had been before.
	Reason v1alpha1.Reason
	// Message is a sentence about Reason.
	Message string
	// Confine is, after a Take, the nodes that the pod must be confined to, sorted; empty where it may go anywhere.
	Confine []string
	// Ended is, after an End or a GiveBack that removed a holder, that holder. It is nil when the holder was gone already.
	Ended *Ended
	// Kind is, after a Take or an Adopt, the kind of seat that the pod holds.
	Kind Kind
	// Stale is true where the writer's licence is another or older one than the ledger's: read it again.
	Stale bool
	// Changed is true where the ledger is different now.
	Changed bool
}

// OK reports whether the change was carried out, or had been before.
func (r Result) OK() bool { return r.Reason == "" }

// Limit takes over limits, generation and Terms of a licence. A licence of another UID than the ledger's only counts once it is
// Confirmed, and so does an older generation of the same licence: generations only grow, and a ledger that names a later one
// than there is was changed by hand. The result is else Stale, with the reason WaitingForSeat.
type Limit struct {
	License *v1alpha1.ModelLicense
	// Confirmed is true where the licence was read from the API server after the ledger was. Book sees to it.
	Confirmed bool
}

// Take takes a seat for a pod whose gate is about to be removed. It is refused with WaitingForSeat, TooLarge or LedgerFull,
// and where Generation is not the ledger's, with WaitingForSeat and Stale: send a Limit before it in the same batch. A pod
// that holds a seat already keeps it, and the result says again where it must be confined to; what Expire set is taken back
// while it is neither bound nor Released, so that nobody gives back what is about to be used.
type Take struct {
	Pod   types.UID
	Grant Grant
	// GrantLimits are the limits of the grant.
	GrantLimits corev1.ResourceList
	// Amount is what the pod counts for: count.AmountOf.
	Amount corev1.ResourceList
	// Generation is that of the licence that the writer knows.
	Generation int64
	// Since is now.
	Since time.Time
	// Surge is given where the licence allows surge and the pod replaces others of its owner.
	Surge *SurgeFor
}

// SurgeFor is by what right a pod may take a seat beyond the limits: it replaces pods of its controller owner that hold
// seats. Such a seat is given if fewer than Pods surge seats are taken, everybody else is within the limits, at least one
// replaced pod holds a seat without surge, and the pod counts for no more than one of those does. Nodes are never
// exceeded: with none left, the pod is confined to those in use.
type SurgeFor struct {
	// Pods is terms.surge.pods.
	Pods int32
	// Period is terms.surge.period.
	Period time.Duration
	// Replaces are the owner's pods of other revisions.
	Replaces []types.UID
}

// Adopt gives a seat to a pod that runs without one: Regular where it fits, else Adopted. It fails only with LedgerFull. A
// pod that holds a seat already keeps it; its node is taken over as by Bind.
type Adopt struct {
	Pod         types.UID
	Grant       Grant
	GrantLimits corev1.ResourceList
	Amount      corev1.ResourceList
	Node        string
	// Since is when the pod began to run, or was first seen to.
	Since time.Time
}

// Bind takes note of the node that a pod was scheduled to. The reason is NoSeat where the pod holds none, and NodeLimit
// where the node is one too many: it is noted all the same, the seat is then Adopted.
type Bind struct {
	Pod  types.UID
	Node string
}

// Release is to be applied before a key leaves for a pod: it holds a Regular or Surge seat, runs on that node, and the node
// is within the limits of licence and grant. The reason is else NoSeat or NodeLimit, or LeaseEnding where Until is set, and
// nothing is released. The holder is marked Released, not Wiped, and bound to the node.
type Release struct {
	Pod  types.UID
	Node string
}

// Resize lets a holder count for another amount. Where there is no room for it, the reason is SeatsFull and nothing
// changes; with Force, for a pod that was resized already, it counts all the same, and the seat is then Adopted. NoSeat
// where the pod holds none.
type Resize struct {
	Pod    types.UID
	Amount corev1.ResourceList
	// GrantLimits are the limits of the grant; nil leaves those that the ledger knows.
	GrantLimits corev1.ResourceList
	Force       bool
	// At is now: until then the pod used what it counted for before. Zero: the new amount counts from the start.
	At time.Time
}

// Expire sets when the seat ends by itself. An earlier time that is set already stays. NoSeat where the pod holds none.
type Expire struct {
	Pod   types.UID
	Until time.Time
}

// Renew takes back what Expire set. NoSeat where the pod holds none.
type Renew struct{ Pod types.UID }

// Wipe notes that the pod's key was wiped on its node. NoSeat where the pod holds none.
type Wipe struct{ Pod types.UID }

// End gives the seat back and moves what was used into the ledger's closed usage. At before Since counts as Since. A pod
// that holds none is no error; Result.Ended is nil then.
type End struct {
	Pod types.UID
	At  time.Time
	// Until, where it is not zero, is the end that was set and on which this one rests: a seat with another, or none since it
	// was renewed, stays. Without it, whoever was held up could end the seat of a pod that runs.
	Until time.Time
}

// GiveBack gives back the seat of a pod that is still gated: nothing was used. A holder that is bound or Released is
// gated no more and keeps its seat, with the reason Admitted: use End for it.
type GiveBack struct {
	Pod types.UID
	// Until, where it is not zero, is the end that Expire set before the pod was touched: a seat with another end, or none, was
	// taken since, and stays. Without it, a giver that was held up could take away the seat of a pod that runs.
	Until time.Time
}

// Apply carries out changes one after another.
func (l *Ledger) Apply(changes ...Change) []Result {
	results := make([]Result, len(changes))
	for i, c := range changes {
		results[i] = c.apply(l)
		l.settle()
	}
	return results
}
