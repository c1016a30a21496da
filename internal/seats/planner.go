package seats

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// planner is a plan in the making: what is in use where, as if all that was planned until now were done.
type planner struct {
	in      *PlanInput
	ledgers map[string]*planLedger
	groups  map[string]*planGroup
	queues  turns
	// reserved are the pods for which room was kept, since their group has begun. They have no turn to wait for.
	reserved []*unit
	// kept is for how many missing pods room is kept.
	kept    int
	byGrant map[*planGrant]*turn

	taken, waiting []Allocation
	undo           []step
}

// planLedger is the state of a licence.
type planLedger struct {
	name        string
	ledger      *Ledger // nil where it is not known
	inUse       tally
	nodes       int64 // in use
	nodesBefore int64 // in use by holders
	hasNodes    bool  // there are nodes that a pod can be confined to
	holders     int
	tables      int // bytes
	grants      map[Grant]*planGrant
	// hasHead is true once a pod keeps all that it wants.
	hasHead bool
	kept    resources // what is kept from pods behind
	ahead   int       // pods that wait
	surge   *surgeRoom
	held    *string // who holds the seats, in words
}

// planGrant is the state of a grant in a licence.
type planGrant struct {
	ledger      *planLedger
	grant       Grant
	bounds      bounds
	inUse       tally
	nodes       int64 // in use, where they are limited
	own         bool  // there are nodes of the grant that a pod can be confined to
	kept        resources
	held        *string
	nodesBefore int64 // in use by holders
}

// resources is a small set.
type resources []corev1.ResourceName

func (r *resources) add(name corev1.ResourceName) {
	if !slices.Contains(*r, name) {
		*r = append(*r, name)
	}
}

// of is the first resource of the set that somebody wants.
func (r resources) of(want amount) corev1.ResourceName {
	for _, name := range r {
		if name == corev1.ResourcePods || name == ResourceNodes || want.of(name) > 0 {
			return name
		}
	}
	return ""
}

// planGroup is a group of pods.
type planGroup struct {
	state   GroupState
	begun   bool
	missing []reservation // room that is kept for pods of a group that has begun
	waiting []*planPod
}

// reservation is room for one missing pod of a group, in every licence that the group's pods use.
type reservation []step

// planPod is a waiting pod.
type planPod struct {
	index int
	*Waiting
	wants []planWant
}

type planWant struct {
	grant *planGrant
	of    amount
	surge *SurgeFor
}

// unit is what starts together: a pod, or a group with room for its missing pods.
type unit struct {
	first *planPod
	pods  []*planPod
	// missing is for how many further pods there must be room, each of which wants as much as each.
	missing int
	each    planPod
	group   *planGroup
}

func newPlanner(in *PlanInput) *planner {
	return &planner{
		in: in, ledgers: map[string]*planLedger{}, groups: map[string]*planGroup{}, byGrant: map[*planGrant]*turn{},
	}
}

func (p *planner) ledger(name string) *planLedger {
	if known, ok := p.ledgers[name]; ok {
		return known
	}
	pl := &planLedger{name: name, ledger: p.in.Ledgers[name], grants: map[Grant]*planGrant{}}
	if l := pl.ledger; l != nil {
		pl.inUse, pl.nodes, pl.holders = l.inUse.clone(), l.nodesInUse(), len(l.holders)
		pl.nodesBefore, pl.tables = pl.nodes, l.tablesBytes()
		pl.hasNodes = pl.nodes > int64(l.reserved)
	}
	p.ledgers[name] = pl
	return pl
}

// grantOf is the state of a grant; its limits are those that are given first.
func (p *planner) grantOf(pl *planLedger, g Grant, limits corev1.ResourceList) *planGrant {
	if known, ok := pl.grants[g]; ok {
		return known
	}
	pg := &planGrant{ledger: pl, grant: g, bounds: boundsOf(limits)}
	if pl.ledger != nil {
		if i := pl.ledger.findGrant(g); i >= 0 {
			pg.inUse = pl.ledger.grants[i].inUse.clone()
			if pg.bounds.nodes != unlimited {
				nodes := pl.ledger.nodesOf(int32(i))
				pg.nodes, pg.own = nodes.inUse(), len(nodes.bound) > 0
				pg.nodesBefore = pg.nodes
			}
		}
	}
	pl.grants[g] = pg
	return pg
}

// enqueue puts every waiting pod into its grant's queue.
func (p *planner) enqueue() {
	pods := make([]planPod, len(p.in.Waiting))
	for i := range p.in.Waiting {
		pod := &pods[i]
		pod.index, pod.Waiting = i, &p.in.Waiting[i]
		wants := slices.Clone(pod.Wants)
		slices.SortStableFunc(wants, func(a, b Want) int { return cmp.Compare(a.License, b.License) })
		pod.wants = make([]planWant, len(wants))
		for j := range wants {
			w := &wants[j]
			pod.wants[j] = planWant{p.grantOf(p.ledger(w.License), w.Grant, w.GrantLimits), amountOf(w.Amount), w.Surge}
		}
		var group *planGroup
		if pod.Group != "" {
			group = p.groups[pod.Group]
		}
		if group != nil && !group.begun {
			group.waiting = append(group.waiting, pod)
			continue
		}
		if u := (&unit{first: pod, pods: []*planPod{pod}, group: group}); group != nil && len(group.missing) > 0 {
			p.reserved = append(p.reserved, u)
		} else {
			p.queue(u)
		}
	}
	slices.SortFunc(p.reserved, func(a, b *unit) int { return comparePods(a.first, b.first) })
	for _, state := range p.in.Groups {
		group := p.groups[state.Key]
		if group == nil || len(group.waiting) == 0 {
			continue
		}
		slices.SortFunc(group.waiting, comparePods)
		u := &unit{first: group.waiting[0], pods: group.waiting, group: group}
		if u.missing = max(state.Size-state.Finished-len(group.waiting), 0); u.missing > 0 {
			u.each.wants = greatest(group.waiting)
		}
		p.queue(u)
		group.waiting = nil // a key that is there twice is one group
	}
	for _, t := range p.queues {
		slices.SortFunc(t.units, func(a, b *unit) int { return comparePods(a.first, b.first) })
	}
	heap.Init(&p.queues)
}

// greatest is what a missing pod of a group is taken to want: the most of what any of those that wait wants.
func greatest(pods []*planPod) []planWant {
	var out []planWant
	for _, pod := range pods {
		for _, w := range pod.wants {
			i := slices.IndexFunc(out, func(o planWant) bool { return o.grant == w.grant })
			if i < 0 {
				out = append(out, planWant{grant: w.grant, of: w.of})
			} else {
				out[i].of = out[i].of.max(w.of)
			}
		}
	}
	return out
}

// comparePods puts pods into their order within a grant.
func comparePods(a, b *planPod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Pod, b.Pod),
		cmp.Compare(a.index, b.index))
}

// turn is the queue of a grant.
type turn struct {
	seats   int64 // that its pods hold, would hold, or wait for before the next
	last    time.Time
	license string
	grant   Grant
	units   []*unit
}

// turns is a heap of the grants that have pods waiting.
type turns []*turn

func (t turns) Len() int      { return len(t) }
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t turns) Less(i, j int) bool {
	a, b := t[i], t[j]
	if of := cmp.Or(cmp.Compare(a.seats, b.seats), a.last.Compare(b.last)); of != 0 {
		return of < 0
	}
	if len(a.units) > 0 && len(b.units) > 0 {
		if of := a.units[0].first.Created.Compare(b.units[0].first.Created); of != 0 {
			return of < 0
		}
	}
	return cmp.Or(compareGrants(a.grant, b.grant), cmp.Compare(a.license, b.license)) < 0
}

// Push is part of heap.Interface.
func (t *turns) Push(x any) { *t = append(*t, x.(*turn)) }

// Pop is part of heap.Interface.
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (p *planner) queue(u *unit) {
	wanting := slices.IndexFunc(u.pods, func(pod *planPod) bool { return len(pod.wants) > 0 })
	if wanting < 0 { // it needs nothing
		for _, pod := range u.pods {
			p.taken = append(p.taken, Allocation{Pod: pod.Pod, Index: pod.index, Take: true})
		}
		return
	}
	grant := u.pods[wanting].wants[0].grant
	t := p.byGrant[grant]
	if t == nil {
		t = &turn{seats: grant.inUse.pods, license: grant.ledger.name, grant: grant.grant}
		if p.in.LastTurn != nil {
			t.last = p.in.LastTurn(t.license, t.grant)
		}
		p.byGrant[grant] = t
		p.queues = append(p.queues, t)
	}
	t.units = append(t.units, u)
}

// run takes turns until every unit had its own.
func (p *planner) run() []Allocation {
	for _, u := range p.reserved {
		p.decide(u)
	}
	for len(p.queues) > 0 {
		t := p.queues[0]
		u := t.units[0]
		t.units = t.units[1:]
		t.seats += int64(len(u.pods))
		p.decide(u)
		if len(t.units) == 0 {
			heap.Pop(&p.queues)
		} else {
			heap.Fix(&p.queues, 0)
		}
	}
	return append(p.taken, p.waiting...)
}

// decide lets a unit take its seats, or wait.
func (p *planner) decide(u *unit) {
	if b := p.tooLarge(u); b != nil {
		p.wait(u, b)
		return
	}
	given := u.group.give(p)
	mark := len(p.undo)
	b := p.placeAll(u)
	if b == nil {
		p.undo = p.undo[:0]
		for _, pod := range u.pods {
			p.taken = append(p.taken, Allocation{Pod: pod.Pod, Index: pod.index, Take: true})
		}
		return
	}
	p.rollback(mark)
	u.group.takeBack(p, given)
	p.keep(u, b)
	p.wait(u, b)
}

// keep keeps from those behind what a unit waits for.
func (p *planner) keep(u *unit, b *block) {
	switch {
	case b.lack == "":
	case b.byGrant:
		b.grant.kept.add(b.lack)
	case b.kept:
	case b.grant.ledger.hasHead || b.reason == v1alpha1.ReasonLedgerFull:
		b.grant.ledger.kept.add(b.lack)
	default:
		b.grant.ledger.hasHead = true
		b.grant.ledger.kept.add(b.lack)
		for _, pod := range u.pods {
			p.force(pod)
		}
		for range u.missing {
			p.force(&u.each)
		}
	}
}

// wait tells the pods of a unit their place.
func (p *planner) wait(u *unit, b *block) {
	pl := b.grant.ledger
	for _, pod := range u.pods {
		a := Allocation{Pod: pod.Pod, Index: pod.index, License: pl.name, Reason: b.reason}
		if b.reason != v1alpha1.ReasonTooLarge {
			pl.ahead++
			a.Position = pl.ahead
		}
		if a.Reason == v1alpha1.ReasonWaitingForSeat && len(u.pods)+u.missing > 1 {
			a.Reason = v1alpha1.ReasonWaitingForGroup
		}
		a.Message = p.message(u, b, a)
		p.waiting = append(p.waiting, a)
	}
}

// heldBy finds, for pods of groups, the seats that they hold.
func (p *planner) heldBy() map[types.UID][]heldSeat {
	out := map[types.UID][]heldSeat{}
	for i := range p.in.Groups {
		for _, pod := range p.in.Groups[i].Held {
			out[pod] = nil
		}
	}
	if len(out) == 0 {
		return nil
	}
	for name, l := range p.in.Ledgers {
		if l == nil {
			continue
		}
		for i := range l.holders {
			h := &l.holders[i]
			if seats, wanted := out[h.pod]; wanted {
				out[h.pod] = append(seats, heldSeat{name, &l.grants[h.grant], l.amounts[h.amount].amount, h.since})
			}
		}
	}
	return out
}

// heldSeat is a seat that a pod of a group holds.
type heldSeat struct {
	license string
	grant   *grantEntry
	of      amount
	since   int64
}
