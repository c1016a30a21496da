package seats

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// place is where a pod that takes a seat may go.
type place struct {
	confinement confinement
	nodes       []string // sorted; given where it is confined
}

// placeFor is where another pod of a grant may go without more nodes in use than the bounds allow; false where nowhere.
func (l *Ledger) placeFor(grant int32, b bounds) (place, bool) {
	if b.nodes != unlimited {
		nodes := l.nodesOf(grant)
		own := len(nodes.bound) > 0
		if nodes.inUse() >= b.nodes || own && l.nodesInUse() >= l.bounds.nodes {
			return place{grantNodes, l.names(nodes)}, own
		}
	}
	if l.nodesInUse() < l.bounds.nodes {
		return place{}, true
	}
	nodes := l.Nodes()
	return place{licenseNodes, nodes}, len(nodes) > 0
}

// regular is what the holders that are within the limits count for together.
func (l *Ledger) regular() tally {
	return l.without(func(h *holder) bool { return Kind(h.kind) != Regular })
}

// without is what all holders count for, but for some.
func (l *Ledger) without(some func(*holder) bool) tally {
	sum := l.inUse.clone()
	if l.beyond == 0 {
		return sum
	}
	for i := range l.holders {
		if h := &l.holders[i]; some(h) {
			sum.add(-1, l.amounts[h.amount].amount)
		}
	}
	return sum
}

// regularOf is as regular for one grant.
func (l *Ledger) regularOf(grant int32) tally {
	sum := l.grants[grant].inUse.clone()
	if l.beyond == 0 {
		return sum
	}
	for i := range l.holders {
		if h := &l.holders[i]; h.grant == grant && Kind(h.kind) != Regular {
			sum.add(-1, l.amounts[h.amount].amount)
		}
	}
	return sum
}

// regularNodes are the nodes of holders that are not Adopted, and of all that are not bound yet.
func (l *Ledger) regularNodes() *nodeSet {
	s := &nodeSet{bound: map[int32]int32{}}
	for i := range l.holders {
		if h := &l.holders[i]; Kind(h.kind) != Adopted || !h.bound() {
			s.add(h)
		}
	}
	if l.confined > 0 {
		for i := range l.nodes {
			if l.nodes[i].kept {
				s.bound[int32(i)]++
			}
		}
	}
	return s
}

// settle turns seats beyond the limits regular, the oldest first, where something has become free for them.
func (l *Ledger) settle() {
	if !l.freed {
		return
	}
	l.freed = false
	if l.beyond == 0 {
		return
	}
	sum := l.regular()
	if sum.pods >= l.bounds.pods {
		return
	}
	var waiting []*holder
	for i := range l.holders {
		if Kind(l.holders[i].kind) != Regular {
			waiting = append(waiting, &l.holders[i])
		}
	}
	slices.SortFunc(waiting, func(a, b *holder) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.pod, b.pod))
	})
	byGrant := map[int32]tally{}
	for _, h := range waiting {
		of, known := byGrant[h.grant]
		if !known {
			of = l.regularOf(h.grant)
			byGrant[h.grant] = of
		}
		want := tally{pods: 1, of: l.amounts[h.amount].amount}
		if l.bounds.lacking(sum, want) != "" || l.grants[h.grant].bounds.lacking(of, want) != "" || !l.nodesFit(h) {
			continue
		}
		h.kind, h.surgeUntil = uint8(Regular), 0
		l.beyond--
		sum.addTally(want)
		of.addTally(want)
		byGrant[h.grant] = of
	}
}

// nodesFit reports whether a holder beyond the limits is on a node that is within them.
func (l *Ledger) nodesFit(h *holder) bool {
	if l.bounds.nodes != unlimited && l.nodesInUse() > l.bounds.nodes {
		nodes := l.regularNodes()
		if h.bound() {
			nodes.bound[h.node]++
		}
		if nodes.inUse() > l.bounds.nodes {
			return false
		}
	}
	b := l.grants[h.grant].bounds
	return b.nodes == unlimited || l.nodesOf(h.grant).inUse() <= b.nodes
}

// tooLarge is the first resource of which a pod alone, or a whole group, wants more than the bounds allow at all.
func (b bounds) tooLarge(want tally) corev1.ResourceName {
	if b.nodes == 0 {
		return ResourceNodes
	}
	return b.lacking(tally{}, want)
}

// refuse says that of a resource there is too little.
func refuse(reason v1alpha1.Reason, format string, args ...any) Result {
	return Result{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// amountText is how much of a resource there is, as people write it.
func amountText(name corev1.ResourceName, n int64) string {
	q := quantity(name, n)
	return q.String()
}

// usedText is what is in use of a limit, as "4 of 4 pods" or "8 of 8 nvidia.com/gpu".
func usedText(name corev1.ResourceName, inUse, limit int64) string {
	return amountText(name, inUse) + " of " + amountText(name, limit) + " " + string(name)
}

// inUseOf is how much of a resource is in use.
func (t tally) inUseOf(name corev1.ResourceName, nodes int64) int64 {
	switch name {
	case corev1.ResourcePods:
		return t.pods
	case ResourceNodes:
		return nodes
	}
	return t.of.of(name)
}
