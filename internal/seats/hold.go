package seats

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func (l *Ledger) noSeat(pod types.UID) Result {
	return refuse(v1alpha1.ReasonNoSeat, "pod %s holds no seat of ModelLicense %s", pod, l.license)
}

func (c Bind) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return l.noSeat(c.Pod)
	}
	if c.Node == "" {
		return Result{Kind: Kind(l.holders[i].kind)}
	}
	r := l.bind(i, c.Node)
	r.Kind = Kind(l.holders[i].kind)
	return r
}

// bind notes the node of a holder. A node that is one too many turns the seat into an Adopted one.
func (l *Ledger) bind(i int, name string) Result {
	h := &l.holders[i]
	if h.bound() && l.nodes[h.node].name == name {
		return Result{}
	}
	node := l.nodeFor(name)
	if node < 0 {
		return refuse(v1alpha1.ReasonLedgerFull, "the ledger of ModelLicense %s holds %d nodes and can hold no more", l.license, len(l.nodes))
	}
	byGrant := &l.grants[h.grant].bounds
	before, ofGrantBefore := l.nodesInUse(), int64(0)
	if byGrant.nodes != unlimited {
		ofGrantBefore = l.nodesOf(h.grant).inUse()
	}
	l.count(h, -1)
	h.node, h.confinement = node, anywhere
	l.count(h, 1)
	l.freed = true
	r := Result{Changed: true}
	after := l.nodesInUse()
	switch {
	case after > before && after > l.bounds.nodes:
		r.Reason, r.Message = l.nodeLimit("ModelLicense "+l.license, name, l.bounds.nodes)
	case byGrant.nodes != unlimited:
		if after := l.nodesOf(h.grant).inUse(); after > ofGrantBefore && after > byGrant.nodes {
			r.Reason, r.Message = l.nodeLimit("ModelGrant "+l.grants[h.grant].grant.String(), name, byGrant.nodes)
		}
	}
	if r.Reason != "" {
		l.demote(h)
	}
	return r
}

func (l *Ledger) nodeLimit(whose, node string, limit int64) (v1alpha1.Reason, string) {
	r := refuse(v1alpha1.ReasonNodeLimit, "with node %s there are more nodes in use than the %d that %s allows", node, limit, whose)
	return r.Reason, r.Message
}

// demote turns a seat into an Adopted one.
func (l *Ledger) demote(h *holder) {
	if Kind(h.kind) == Regular {
		l.beyond++
	}
	h.kind, h.surgeUntil = uint8(Adopted), 0
}

func (c Release) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return l.noSeat(c.Pod)
	}
	h := &l.holders[i]
	if h.until != 0 {
		return refuse(v1alpha1.ReasonLeaseEnding, "the seat of pod %s ends at %s", c.Pod, moment(h.until).Format("2006-01-02T15:04:05Z"))
	}
	if h.bound() && l.nodes[h.node].name != c.Node {
		return refuse(v1alpha1.ReasonNoSeat, "pod %s holds its seat on another node than %s", c.Pod, c.Node)
	}
	r := Result{}
	if !h.bound() {
		if r = l.bind(i, c.Node); r.Reason != "" {
			return r
		}
	}
	if Kind(h.kind) == Adopted {
		l.settle()
	}
	if Kind(h.kind) == Adopted {
		refused := refuse(v1alpha1.ReasonNoSeat, "pod %s runs beyond the limits of ModelLicense %s", c.Pod, l.license)
		if !l.nodesFit(h) {
			refused.Reason, refused.Message = l.nodeLimit("ModelLicense "+l.license, c.Node, l.bounds.nodes)
		}
		refused.Kind, refused.Changed = Adopted, r.Changed
		return refused
	}
	if !h.released || h.wiped {
		h.released, h.wiped, r.Changed = true, false, true
	}
	r.Kind = Kind(h.kind)
	return r
}

func (c Resize) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return l.noSeat(c.Pod)
	}
	h := &l.holders[i]
	r := Result{}
	if c.GrantLimits != nil {
		r.Changed = l.setGrantLimits(h.grant, c.GrantLimits)
	}
	old, wanted := l.amounts[h.amount].amount, amountOf(c.Amount)
	r.Kind = Kind(h.kind)
	if slices.Equal(old, wanted) {
		return r
	}
	grown := tally{of: growth(old, wanted)}
	grant := &l.grants[h.grant]
	lack := l.bounds.lacking(l.inUse, grown)
	if lack == "" {
		lack = grant.bounds.lacking(grant.inUse, grown)
	}
	if lack != "" && !c.Force {
		refused := refuse(v1alpha1.ReasonSeatsFull, "there is no room for %s %s in ModelLicense %s and ModelGrant %s",
			amountText(lack, wanted.of(lack)), lack, l.license, grant.grant)
		refused.Kind, refused.Changed = r.Kind, r.Changed
		return refused
	}
	amount := l.amountFor(wanted)
	if amount < 0 {
		refused := refuse(v1alpha1.ReasonLedgerFull, "the ledger of ModelLicense %s holds %d kinds of pods and can hold no more",
			l.license, len(l.amounts))
		refused.Kind, refused.Changed = r.Kind, r.Changed
		return refused
	}
	if at := second(c.At); at > max(h.since, h.meteredFrom) {
		var u usage
		u.addResources(old, at-max(h.since, h.meteredFrom))
		l.closed.addUsage(u)
		l.grants[h.grant].closed.addUsage(u)
		h.meteredFrom = at
	}
	l.count(h, -1)
	h.amount = amount
	l.count(h, 1)
	if lack != "" {
		l.demote(h)
	}
	l.freed = true
	l.settle()
	return Result{Kind: Kind(h.kind), Changed: true}
}

// growth is by how much of each resource wanted is more than old.
func growth(old, wanted amount) amount {
	var out amount
	for _, c := range wanted {
		if more := c.n - old.of(c.name); more > 0 {
			out = append(out, count{c.name, more})
		}
	}
	return out
}

func (c Expire) apply(l *Ledger) Result {
	return l.with(c.Pod, func(h *holder) bool {
		until := max(second(c.Until), h.since)
		if h.until != 0 && h.until <= until {
			return false
		}
		h.until = max(until, 1)
		return true
	})
}

func (c Renew) apply(l *Ledger) Result {
	return l.with(c.Pod, func(h *holder) bool {
		changed := h.until != 0
		h.until = 0
		return changed
	})
}

func (c Wipe) apply(l *Ledger) Result {
	return l.with(c.Pod, func(h *holder) bool {
		changed := !h.wiped
		h.wiped = true
		return changed
	})
}

// with changes a holder that no sum depends on.
func (l *Ledger) with(pod types.UID, change func(*holder) bool) Result {
	i, found := l.find(pod)
	if !found {
		return l.noSeat(pod)
	}
	h := &l.holders[i]
	return Result{Kind: Kind(h.kind), Changed: change(h)}
}

func (c End) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return Result{}
	}
	if h := &l.holders[i]; !c.Until.IsZero() && h.until != second(c.Until) {
		r := refuse(v1alpha1.ReasonAdmitted, "the seat of pod %s was renewed", c.Pod)
		r.Kind = Kind(h.kind)
		return r
	}
	shown := l.show(&l.holders[i])
	used := l.close(&l.holders[i], second(c.At))
	l.remove(i)
	return Result{Ended: &Ended{Holder: shown, Usage: used.status()}, Changed: true}
}

func (c GiveBack) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return Result{}
	}
	if h := &l.holders[i]; h.bound() || h.released {
		r := refuse(v1alpha1.ReasonAdmitted, "pod %s is not gated any more", c.Pod)
		r.Kind = Kind(h.kind)
		return r
	}
	if h := &l.holders[i]; !c.Until.IsZero() && h.until != second(c.Until) {
		r := refuse(v1alpha1.ReasonAdmitted, "pod %s has taken its seat anew", c.Pod)
		r.Kind = Kind(h.kind)
		return r
	}
	shown := l.show(&l.holders[i])
	l.remove(i)
	return Result{Ended: &Ended{Holder: shown}, Changed: true}
}
