package seats

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// block is why a unit cannot take its seats.
type block struct {
	reason  v1alpha1.Reason
	grant   *planGrant          // where there is no room: its licence, or itself
	lack    corev1.ResourceName // of what there is too little; empty where that is not the point
	want    int64               // how much is wanted of it, where it is too large
	byGrant bool                // the grant has no room, not the licence
	kept    bool                // there would be room if others did not wait before
}

// step is a seat that was planned, so that it can be taken back.
type step struct {
	grant             *planGrant
	of                amount
	nodes, grantNodes int64
	surge             int32
	// kept says that it is kept for a pod that does not exist yet, and so takes no line of the ledger.
	kept bool
}

func (p *planner) apply(s step, n int64) {
	pl := s.grant.ledger
	pl.inUse.add(n, s.of)
	s.grant.inUse.add(n, s.of)
	pl.nodes += n * s.nodes
	s.grant.nodes += n * s.grantNodes
	if !s.kept {
		pl.holders += int(n)
	}
	if s.surge > 0 {
		pl.surge.left -= int32(n) * s.surge
	}
}

func (p *planner) do(s step) {
	p.apply(s, 1)
	p.undo = append(p.undo, s)
}

func (p *planner) rollback(mark int) {
	for _, s := range slices.Backward(p.undo[mark:]) {
		p.apply(s, -1)
	}
	p.undo = p.undo[:mark]
}

// spareBytes is what a holder may add to the tables of a ledger.
const spareBytes = 2000

// placeAll plans the seats of all pods of a unit, or says what stands in the way.
func (p *planner) placeAll(u *unit) *block {
	for _, pod := range u.pods {
		if b := p.place(pod); b != nil {
			return b
		}
	}
	for range u.missing {
		if b := p.place(&u.each); b != nil {
			return b
		}
	}
	return nil
}

// place plans the seats of one pod in all its licences. What it planned before it found no room is in undo.
func (p *planner) place(pod *planPod) *block {
	for i := range pod.wants {
		w := &pod.wants[i]
		pl, pg := w.grant.ledger, w.grant
		if pl.ledger == nil {
			return &block{reason: v1alpha1.ReasonWaitingForSeat, grant: pg}
		}
		if pl.holders >= v1alpha1.MaxSeatHolders || (pl.holders+1)*lineBytes+pl.tables+spareBytes > maxBytes {
			return &block{reason: v1alpha1.ReasonLedgerFull, grant: pg, lack: corev1.ResourcePods}
		}
		s := step{grant: pg, of: w.of}
		if b := w.room(); b != nil {
			if b.kept || !pl.surges(w) {
				return b
			}
			s.surge = 1
		}
		if b := w.nodes(&s); b != nil {
			return b
		}
		p.do(s)
	}
	return nil
}

// room says where there is too little for a pod, nodes aside; nil where it fits.
func (w *planWant) room() *block {
	pl, pg := w.grant.ledger, w.grant
	want := tally{pods: 1, of: w.of}
	b := &block{reason: v1alpha1.ReasonWaitingForSeat, grant: pg}
	if b.lack = pg.bounds.lacking(pg.inUse, want); b.lack != "" {
		b.byGrant = true
		return b
	}
	if b.lack = pg.kept.of(w.of); b.lack != "" {
		b.byGrant, b.kept = true, true
		return b
	}
	if b.lack = pl.ledger.bounds.lacking(pl.inUse, want); b.lack != "" {
		return b
	}
	if b.lack = pl.kept.of(w.of); b.lack != "" {
		b.kept = true
		return b
	}
	return nil
}

// nodes plans a node as Ledger.placeFor does, and says where there is none.
func (w *planWant) nodes(s *step) *block {
	pl, pg := w.grant.ledger, w.grant
	limit := pl.ledger.bounds.nodes
	if pg.bounds.nodes != unlimited {
		if full := pg.nodes >= pg.bounds.nodes; full || pg.own && pl.nodes >= limit {
			if !pg.own {
				return &block{reason: v1alpha1.ReasonWaitingForSeat, grant: pg, lack: ResourceNodes, byGrant: full}
			}
			return nil
		}
		s.grantNodes = 1
	}
	if pl.nodes < limit {
		s.nodes = 1
		return nil
	}
	if !pl.hasNodes {
		return &block{reason: v1alpha1.ReasonWaitingForSeat, grant: pg, lack: ResourceNodes}
	}
	return nil
}

// force plans the seats of a pod for which there is no room, so that those behind find it gone.
func (p *planner) force(pod *planPod) {
	for i := range pod.wants {
		w := &pod.wants[i]
		if w.grant.ledger.ledger == nil {
			continue
		}
		s := step{grant: w.grant, of: w.of}
		_ = w.nodes(&s) // where there is none, there is none to keep
		p.apply(s, 1)
	}
}

// tooLarge says whether a pod of a unit, or all of them together, want more than the limits allow at all.
func (p *planner) tooLarge(u *unit) *block {
	sums := map[*planGrant]*tally{}
	byLedger := map[*planLedger]*tally{}
	alone := len(u.pods)+u.missing == 1
	check := func(pod *planPod, times int64) *block {
		for i := range pod.wants {
			w := &pod.wants[i]
			sum, total := &tally{}, &tally{}
			if !alone {
				if sums[w.grant] == nil {
					sums[w.grant] = sum
				}
				if byLedger[w.grant.ledger] == nil {
					byLedger[w.grant.ledger] = total
				}
				sum, total = sums[w.grant], byLedger[w.grant.ledger]
			}
			sum.add(times, w.of)
			total.add(times, w.of)
			b := &block{reason: v1alpha1.ReasonTooLarge, grant: w.grant}
			if l := w.grant.ledger.ledger; l != nil {
				if b.lack = l.bounds.tooLarge(*total); b.lack != "" {
					b.want = total.inUseOf(b.lack, 1)
					return b
				}
			}
			if b.lack = w.grant.bounds.tooLarge(*sum); b.lack != "" {
				b.want, b.byGrant = sum.inUseOf(b.lack, 1), true
				return b
			}
		}
		return nil
	}
	for _, pod := range u.pods {
		if b := check(pod, 1); b != nil {
			return b
		}
	}
	if u.missing == 0 {
		return nil
	}
	return check(&u.each, int64(u.missing))
}

// surgeRoom is what a licence allows beyond its limits.
type surgeRoom struct {
	within bool  // everybody else is within the limits
	left   int32 // less than none where some were planned
}

// surges reports whether a pod may take a seat beyond the limits, as Ledger.surges does.
func (pl *planLedger) surges(w *planWant) bool {
	if w.surge == nil || w.surge.Pods <= 0 {
		return false
	}
	if pl.surge == nil {
		isSurge := func(h *holder) bool { return Kind(h.kind) == Surge }
		pl.surge = &surgeRoom{within: pl.ledger.bounds.within(pl.ledger.without(isSurge))}
		for i := range pl.ledger.holders {
			if isSurge(&pl.ledger.holders[i]) {
				pl.surge.left--
			}
		}
	}
	if !pl.surge.within || w.surge.Pods+pl.surge.left <= 0 {
		return false
	}
	return pl.ledger.surges(w.surge, tally{pods: 1, of: w.of}, int32(pl.ledger.findGrant(w.grant.grant)), w.grant.bounds)
}

// reserveForGroups keeps room for the missing pods of groups that have begun.
func (p *planner) reserveForGroups() {
	seats := p.heldBy()
	for _, state := range p.in.Groups {
		if p.groups[state.Key] != nil {
			continue
		}
		group := &planGroup{state: state}
		p.groups[state.Key] = group
		var newest int64
		var wants []planWant
		for _, pod := range state.Held {
			for _, seat := range seats[pod] {
				group.begun = true
				newest = max(newest, seat.since)
				pg := p.grantOf(p.ledger(seat.license), seat.grant.grant, seat.grant.limits)
				if i := slices.IndexFunc(wants, func(w planWant) bool { return w.grant == pg }); i >= 0 {
					wants[i].of = wants[i].of.max(seat.of)
				} else {
					wants = append(wants, planWant{grant: pg, of: seat.of})
				}
			}
		}
		if !group.begun || state.Size == 0 || second(p.in.Now) > newest+int64(GroupReserve.Seconds()) {
			continue
		}
		slices.SortFunc(wants, func(a, b planWant) int { return cmp.Compare(a.grant.ledger.name, b.grant.ledger.name) })
		if limited := slices.ContainsFunc(wants, planWant.limited); !limited {
			continue // there is room for them whenever they come
		}
		for range max(state.Size-len(state.Held)-state.Finished, 0) {
			r, ok := p.reserve(wants)
			if !ok {
				break
			}
			group.missing = append(group.missing, r)
		}
	}
}

// maxReserved bounds the pods for which room is kept, of all groups together.
const maxReserved = v1alpha1.MaxSeatHolders

// reserve keeps room for one missing pod, as much as there is: a group that says it is larger than it was when it began, or
// than its grant allows, keeps nothing from others that it could not have.
func (p *planner) reserve(wants []planWant) (reservation, bool) {
	if p.kept >= maxReserved {
		return nil, false
	}
	var r reservation
	for i := range wants {
		w := &wants[i]
		if w.grant.ledger.ledger == nil || w.room() != nil {
			for _, s := range r {
				p.apply(s, -1)
			}
			return nil, false
		}
		s := step{grant: w.grant, of: w.of, kept: true}
		_ = w.nodes(&s) // where there is none, there is none to keep
		p.apply(s, 1)
		r = append(r, s)
	}
	p.kept++
	return r, true
}

// limited says whether anything that a pod wants is limited.
func (w planWant) limited() bool {
	bounded := func(b bounds) bool {
		return b.pods != unlimited || b.nodes != unlimited ||
			slices.ContainsFunc(b.of, func(limit count) bool { return w.of.of(limit.name) > 0 })
	}
	l := w.grant.ledger.ledger
	return l != nil && (bounded(l.bounds) || bounded(w.grant.bounds))
}

// give gives the room of one missing pod free, for one that has come; false where there is none.
func (g *planGroup) give(p *planner) bool {
	if g == nil || len(g.missing) == 0 {
		return false
	}
	for _, s := range g.missing[len(g.missing)-1] {
		p.apply(s, -1)
	}
	g.missing = g.missing[:len(g.missing)-1]
	return true
}

// takeBack is the converse of give.
func (g *planGroup) takeBack(p *planner, given bool) {
	if !given {
		return
	}
	g.missing = g.missing[:len(g.missing)+1]
	for _, s := range g.missing[len(g.missing)-1] {
		p.apply(s, 1)
	}
}
