package seats

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func (c Limit) apply(l *Ledger) Result {
	switch {
	case c.License == nil:
		return Result{}
	case c.License.UID != l.licenseUID && !c.Confirmed:
		r := refuse(v1alpha1.ReasonWaitingForSeat, "the ledger is counted for another ModelLicense of this name")
		r.Stale = true
		return r
	case c.License.UID == l.licenseUID && c.License.Generation < l.generation && !c.Confirmed:
		r := refuse(v1alpha1.ReasonWaitingForSeat, "the ledger is counted for generation %d of the ModelLicense, which is newer than %d",
			l.generation, c.License.Generation)
		r.Stale = true
		return r
	}
	before := *l
	l.setLimits(c.License)
	if l.licenseUID == before.licenseUID && l.generation == before.generation && l.terms == before.terms && sameLimits(l.limits, before.limits) {
		l.limits = before.limits
		return Result{}
	}
	l.freed = true
	return Result{Changed: true}
}

// sameLimits compares quantities by what they amount to.
func sameLimits(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		other, ok := b[name]
		if !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}

func (c Take) apply(l *Ledger) Result {
	if i, found := l.find(c.Pod); found {
		return l.takeAgain(i, c)
	}
	if c.Generation != l.generation {
		r := refuse(v1alpha1.ReasonWaitingForSeat, "the seats are counted for generation %d of the ModelLicense, not %d",
			l.generation, c.Generation)
		r.Stale = true
		return r
	}
	want := tally{pods: 1, of: amountOf(c.Amount)}
	byGrant := boundsOf(c.GrantLimits)
	if lack := l.bounds.tooLarge(want); lack != "" {
		return refuseTooLarge("ModelLicense "+l.license, l.bounds, want, lack)
	}
	if lack := byGrant.tooLarge(want); lack != "" {
		return refuseTooLarge("ModelGrant "+c.Grant.String(), byGrant, want, lack)
	}
	kind := Regular
	grant := int32(l.findGrant(c.Grant))
	if r, fits := l.fits(want, c.Grant, grant, byGrant); !fits {
		if !l.surges(c.Surge, want, grant, byGrant) {
			return r
		}
		kind = Surge
	}
	to, ok := l.placeFor(grant, byGrant)
	if !ok {
		return refuse(v1alpha1.ReasonWaitingForSeat, "%s are reserved for pods that are not scheduled yet",
			usedText(ResourceNodes, l.nodesInUse(), l.bounds.nodes))
	}
	h := holder{pod: c.Pod, since: second(c.Since), node: -1, kind: uint8(kind), confinement: to.confinement}
	if kind == Surge {
		h.surgeUntil = h.since + max(int64(c.Surge.Period.Seconds()), 1)
	}
	if r, ok := l.enter(h, c.Grant, want.of); !ok {
		return r
	}
	i, _ := l.find(c.Pod)
	l.setGrantLimits(l.holders[i].grant, c.GrantLimits)
	return Result{Kind: kind, Confine: to.nodes, Changed: true}
}

// takeAgain answers a Take of a pod that has its seat.
func (l *Ledger) takeAgain(i int, c Take) Result {
	h := &l.holders[i]
	r := Result{}
	if c.Generation == l.generation && l.grants[h.grant].grant == c.Grant {
		r.Changed = l.setGrantLimits(h.grant, c.GrantLimits)
	}
	kindBefore := h.kind
	l.settle()
	r.Kind, r.Changed = Kind(h.kind), r.Changed || h.kind != kindBefore
	if h.bound() {
		return r
	}
	if h.until != 0 && !h.released {
		h.until, r.Changed = 0, true
	}
	switch h.confinement {
	case licenseNodes:
		r.Confine = l.Nodes()
	case grantNodes:
		r.Confine = l.names(l.nodesOf(h.grant))
	default:
		return r
	}
	if len(r.Confine) > 0 {
		return r
	}
	to, ok := l.placeFor(h.grant, l.grants[h.grant].bounds)
	if !ok {
		return refuse(v1alpha1.ReasonWaitingForSeat, "the nodes to which the pod was to be confined are not in use any more")
	}
	l.count(h, -1)
	h.confinement = to.confinement
	l.count(h, 1)
	r.Confine, r.Changed = to.nodes, true
	return r
}

// fits reports whether there is room for a pod, nodes aside, and else says for what there is none.
func (l *Ledger) fits(want tally, g Grant, grant int32, byGrant bounds) (Result, bool) {
	if lack := l.bounds.lacking(l.inUse, want); lack != "" {
		return refuse(v1alpha1.ReasonWaitingForSeat, "%s of ModelLicense %s are in use",
			usedText(lack, l.inUse.inUseOf(lack, 0), l.bounds.limit(lack)), l.license), false
	}
	var inUse tally
	if grant >= 0 {
		inUse = l.grants[grant].inUse
	}
	if lack := byGrant.lacking(inUse, want); lack != "" {
		return refuse(v1alpha1.ReasonWaitingForSeat, "%s of ModelGrant %s are in use",
			usedText(lack, inUse.inUseOf(lack, 0), byGrant.limit(lack)), g), false
	}
	return Result{}, true
}

func refuseTooLarge(whose string, b bounds, want tally, lack corev1.ResourceName) Result {
	return refuse(v1alpha1.ReasonTooLarge, "the pod wants %s %s, but %s allows %s at all",
		amountText(lack, max(want.inUseOf(lack, 1), 0)), lack, whose, amountText(lack, b.limit(lack)))
}

// surges reports whether a pod for which there is no room may take a seat all the same, as SurgeFor says.
func (l *Ledger) surges(s *SurgeFor, want tally, grant int32, byGrant bounds) bool {
	if s == nil || s.Pods <= 0 {
		return false
	}
	var taken int32
	if l.beyond > 0 {
		for i := range l.holders {
			if Kind(l.holders[i].kind) == Surge {
				taken++
			}
		}
	}
	if taken >= s.Pods {
		return false
	}
	isSurge := func(h *holder) bool { return Kind(h.kind) == Surge }
	if !l.bounds.within(l.without(isSurge)) {
		return false
	}
	if grant >= 0 && !byGrant.within(l.without(func(h *holder) bool { return h.grant != grant || isSurge(h) })) && l.beyond > 0 {
		return false
	}
	return slices.ContainsFunc(s.Replaces, func(pod types.UID) bool {
		i, found := l.find(pod)
		return found && Kind(l.holders[i].kind) == Regular && covers(l.amounts[l.holders[i].amount].amount, want.of, l.bounds, byGrant)
	})
}

// covers reports whether a pod that counts for want counts for no more than one that counts for old, of what is limited.
func covers(old, want amount, limits ...bounds) bool {
	for _, b := range limits {
		for _, limit := range b.of {
			if want.of(limit.name) > old.of(limit.name) {
				return false
			}
		}
	}
	return true
}

// enter puts a new holder into the ledger, or says why the ledger has no room to write it.
func (l *Ledger) enter(h holder, g Grant, a amount) (Result, bool) {
	if !storable(h.pod) {
		return refuse(v1alpha1.ReasonLedgerFull, "the UID %q is none that the API server makes, and cannot be kept", h.pod), false
	}
	if l.full(g, a) {
		return refuse(v1alpha1.ReasonLedgerFull, "the ledger of ModelLicense %s holds %d pods and can hold no more", l.license,
			len(l.holders)), false
	}
	h.amount = l.amountFor(a)
	if h.amount >= 0 {
		h.grant = l.grantFor(g)
	}
	if h.amount < 0 || h.grant < 0 {
		return refuse(v1alpha1.ReasonLedgerFull, "the ledger of ModelLicense %s holds %d grants and %d kinds of pods and can hold no more",
			l.license, len(l.grants), len(l.amounts)), false
	}
	l.insert(h)
	return Result{}, true
}

func (c Adopt) apply(l *Ledger) Result {
	i, found := l.find(c.Pod)
	if !found {
		return l.adopt(c)
	}
	r := Result{}
	if l.grants[l.holders[i].grant].grant == c.Grant {
		r.Changed = l.setGrantLimits(l.holders[i].grant, c.GrantLimits)
	}
	if c.Node != "" {
		bound := l.bind(i, c.Node)
		r.Changed = r.Changed || bound.Changed
	}
	kind := l.holders[i].kind
	l.settle()
	r.Kind, r.Changed = Kind(l.holders[i].kind), r.Changed || l.holders[i].kind != kind
	return r
}

func (l *Ledger) adopt(c Adopt) Result {
	h := holder{pod: c.Pod, since: second(c.Since), node: -1, kind: uint8(Adopted)}
	nodes := slices.Clone(l.nodes)
	if c.Node != "" {
		if h.node = l.nodeFor(c.Node); h.node < 0 {
			return refuse(v1alpha1.ReasonLedgerFull, "the ledger of ModelLicense %s holds %d nodes and can hold no more", l.license,
				len(l.nodes))
		}
	}
	if r, ok := l.enter(h, c.Grant, amountOf(c.Amount)); !ok {
		l.nodes = nodes
		return r
	}
	i, _ := l.find(c.Pod)
	l.setGrantLimits(l.holders[i].grant, c.GrantLimits)
	l.freed = true
	l.settle()
	return Result{Kind: Kind(l.holders[i].kind), Changed: true}
}
