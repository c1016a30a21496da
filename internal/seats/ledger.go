package seats

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Ledger is a decoded ModelSeats. Where it is not changed, it may be read by several goroutines at once.
//
// It is made for ten thousand of them in memory: tables and holders are slices, and a pod is found by binary search.
type Ledger struct {
	license    string
	licenseUID types.UID
	generation int64
	limits     corev1.ResourceList // never changed in place
	bounds     bounds
	terms      Terms

	grants  []grantEntry
	nodes   []nodeEntry
	amounts []amountEntry
	holders []holder // sorted by pod
	closed  usage

	inUse    tally // of all holders
	reserved int32 // holders that are not bound and may go anywhere
	confined int32 // holders that are not bound and may only go to nodes in use
	beyond   int32 // holders that are not Regular
	freed    bool  // something became free since settle last looked
}

// holder is a row of the ledger. Times are in seconds since 1970, 0 where not set.
type holder struct {
	pod                 types.UID
	since, until        int64
	surgeUntil          int64
	meteredFrom         int64 // until then what resources were used is in the closed usage; 0: from since
	grant, node, amount int32 // node is -1 before the pod is bound
	kind                uint8 // a Kind
	confinement         confinement
	released, wiped     bool
}

// confinement says to where a pod is confined that is not bound yet.
type confinement uint8

const (
	anywhere     confinement = iota
	licenseNodes             // the nodes in use of the licence
	grantNodes               // those of the grant
)

// bound reports whether the pod is on a node.
func (h *holder) bound() bool { return h.node >= 0 }

// Empty is the ledger of a licence that nobody holds a seat of yet.
func Empty(license *v1alpha1.ModelLicense) *Ledger {
	l := &Ledger{license: license.Name}
	l.setLimits(license)
	return l
}

func (l *Ledger) setLimits(license *v1alpha1.ModelLicense) {
	l.licenseUID, l.generation = license.UID, license.Generation
	l.terms = l.terms.taking(TermsOf(license))
	l.limits = license.Spec.Terms.Limits.DeepCopy()
	l.bounds = boundsOf(l.limits)
}

// Clone is a copy that can be changed by itself.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.grants = slices.Clone(l.grants)
	for i := range c.grants {
		c.grants[i].inUse = c.grants[i].inUse.clone()
		c.grants[i].closed = c.grants[i].closed.clone()
	}
	c.nodes = slices.Clone(l.nodes)
	c.amounts = slices.Clone(l.amounts)
	c.holders = slices.Clone(l.holders)
	c.closed = l.closed.clone()
	c.inUse = l.inUse.clone()
	return &c
}

// License is the licence's name.
func (l *Ledger) License() string { return l.license }

// LicenseUID is the UID of the licence that the ledger is counted for.
func (l *Ledger) LicenseUID() types.UID { return l.licenseUID }

// Generation is the generation of the licence whose limits the ledger carries.
func (l *Ledger) Generation() int64 { return l.generation }

// Limits are the licence's limits that the ledger carries.
func (l *Ledger) Limits() corev1.ResourceList { return l.limits.DeepCopy() }

// Len is the number of holders.
func (l *Ledger) Len() int { return len(l.holders) }

// Holder is the seat of a pod.
func (l *Ledger) Holder(pod types.UID) (Holder, bool) {
	i, found := l.find(pod)
	if !found {
		return Holder{}, false
	}
	return l.show(&l.holders[i]), true
}

// Holders are all seats, the oldest first.
func (l *Ledger) Holders() []Holder {
	out := make([]Holder, len(l.holders))
	for i, h := range l.byAge() {
		out[i] = l.show(h)
	}
	return out
}

// Pods are the UIDs of all holders, sorted.
func (l *Ledger) Pods() []types.UID {
	out := make([]types.UID, len(l.holders))
	for i := range l.holders {
		out[i] = l.holders[i].pod
	}
	return out
}

// byAge are the holders, the oldest first.
func (l *Ledger) byAge() []*holder {
	out := make([]*holder, len(l.holders))
	for i := range l.holders {
		out[i] = &l.holders[i]
	}
	slices.SortFunc(out, func(a, b *holder) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.pod, b.pod))
	})
	return out
}

func (l *Ledger) find(pod types.UID) (int, bool) {
	return slices.BinarySearchFunc(l.holders, pod, func(h holder, pod types.UID) int { return cmp.Compare(h.pod, pod) })
}

func (l *Ledger) show(h *holder) Holder {
	out := Holder{
		Pod: h.pod, Grant: l.grants[h.grant].grant, Amount: l.amounts[h.amount].list, Kind: Kind(h.kind),
		Confined: !h.bound() && h.confinement != anywhere, Since: moment(h.since), Until: moment(h.until),
		SurgeUntil: moment(h.surgeUntil), Released: h.released, Wiped: h.wiped,
	}
	if h.bound() {
		out.Node = l.nodes[h.node].name
	}
	return out
}

// moment is a time from seconds, zero from 0.
func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// second is the second that a time falls into; 0 for the zero time and what lies before 1970.
func second(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.Unix(), 0)
}

// InUse is what all holders count for together: pods, nodes (see the package's documentation) and resources.
func (l *Ledger) InUse() corev1.ResourceList { return listOf(l.inUse, l.nodesInUse()) }

// InUseBy is what the holders under a grant count for together: pods, nodes and resources.
func (l *Ledger) InUseBy(g Grant) corev1.ResourceList {
	i := l.findGrant(g)
	if i < 0 {
		return listOf(tally{}, 0)
	}
	return listOf(l.grants[i].inUse, l.nodesOf(int32(i)).inUse())
}

func listOf(t tally, nodes int64) corev1.ResourceList {
	out := t.of.list()
	if out == nil {
		out = corev1.ResourceList{}
	}
	out[corev1.ResourcePods] = quantity(corev1.ResourcePods, t.pods)
	out[ResourceNodes] = quantity(ResourceNodes, nodes)
	return out
}

// Grants are the grants that hold seats or have usage, sorted by namespace and name.
func (l *Ledger) Grants() []Grant {
	var out []Grant
	for i := range l.grants {
		if l.grants[i].kept() {
			out = append(out, l.grants[i].grant)
		}
	}
	slices.SortFunc(out, compareGrants)
	return out
}

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

// HasBeyond says whether a pod holds a seat that it took beyond the limits: by surge, or adopted.
func (l *Ledger) HasBeyond() bool { return l.beyond > 0 }

// BeyondLimits is the number of pods that hold a seat beyond the limits: by surge, adopted, or because the limits were
// lowered. Of the last, it is how many of the newest would have to go.
func (l *Ledger) BeyondLimits() int {
	n := int(l.beyond)
	rest := l.regular()
	nodes := l.regularNodes()
	over := func() bool { return !l.bounds.within(rest) || nodes.inUse() > l.bounds.nodes }
	if !over() {
		return n
	}
	for _, h := range slices.Backward(l.byAge()) {
		if !over() {
			break
		}
		if Kind(h.kind) == Regular {
			rest.add(-1, l.amounts[h.amount].amount)
			nodes.remove(h)
			n++
		}
	}
	return n
}
