package controllers

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
)

// allocScene is what one round of the allocator goes by.
type allocScene struct {
	now time.Time
	// licenses are those that can be planned, ledgers theirs with the limits of today.
	licenses map[string]*v1alpha1.ModelLicense
	ledgers  map[string]*seats.Ledger
	// waiting are the pods that can be planned, surges the pods that each of them replaces. Resumed are those that have all
	// their seats already, since an operator ended before it let them go.
	waiting, resumed []queuedPod
	surges           map[types.UID][]types.UID
	groups           []seats.GroupState
	// unseated are pods that run and are to hold a seat, and do not; partial hold seats that they are to give back.
	unseated, partial []types.NamespacedName
	// left are the licences that are left out for now.
	left []string
}

// look gathers what is known of licences. One in which a pod runs without its seat gets no new pods before that has one; so
// does one by newer limits than are known here. Where the view does not show yet what was written last, the ledger is taken
// as it was written: whoever else has written it since is heard of when seats are taken, or when it is looked at again.
func (a *SeatAllocator) look(licenses []string, snapshot *entitlement.Snapshot) *allocScene {
	s := &allocScene{
		now: a.Clock.Now(), licenses: map[string]*v1alpha1.ModelLicense{}, ledgers: map[string]*seats.Ledger{},
		surges: map[types.UID][]types.UID{},
	}
	for _, name := range licenses {
		ledger, shown := a.newest(name, s.now)
		if !shown {
			s.left = append(s.left, name)
			if ledger == nil {
				continue
			}
		}
		if unseated := a.Queue.unseated(name, ledger); len(unseated) > 0 {
			s.unseated, s.left = append(s.unseated, unseated...), append(s.left, name)
			continue
		}
		license := snapshot.License(name)
		if license == nil {
			continue // its pods are not entitled any more, and leave the queue
		}
		switch {
		case ledger == nil:
			ledger = seats.Empty(license)
		case ledger.LicenseUID() == license.UID && ledger.Generation() > license.Generation:
			s.left = append(s.left, name)
			continue
		case !follows(ledger, license):
			ledger = ledger.Clone()
			ledger.Apply(seats.Limit{License: license, Confirmed: true})
		}
		s.licenses[name], s.ledgers[name] = license, ledger
	}
	a.Queue.queued(s)
	s.waiting = slices.DeleteFunc(s.waiting, func(p queuedPod) bool {
		usable, others := a.holds(&p)
		switch {
		case usable+others == 0:
			return false
		case usable == len(p.needs) && others == 0:
			s.resumed = append(s.resumed, p)
		default:
			s.partial = append(s.partial, p.name)
		}
		return true
	})
	return s
}

// newest is the newest ledger of a licence that is known here. Shown says that the view shows all that was written here: then
// there is none where it is nil. Else it is nil where it cannot be understood, or what was written last is not remembered.
func (a *SeatAllocator) newest(license string, now time.Time) (ledger *seats.Ledger, shown bool) {
	if a.Ledgers.Err(license) != nil {
		return nil, false
	}
	if ledger = a.Ledgers.Ledger(license); a.seen(license, ledger, now) {
		return ledger, true
	}
	return a.Book.Newest(license), false
}

// seen says whether the view shows what was written to a ledger last. A seat that it has shown once is waited for no more, nor
// one that it had viewLag to show: it may have come and gone.
func (a *SeatAllocator) seen(license string, ledger *seats.Ledger, now time.Time) bool {
	unseen := slices.DeleteFunc(a.unseen[license], func(u unseenSeat) bool {
		if ledger != nil {
			if _, there := ledger.Holder(u.pod); there {
				return true
			}
		}
		return now.Sub(u.at).Abs() >= viewLag
	})
	if len(unseen) > 0 {
		a.unseen[license] = unseen
		return false
	}
	delete(a.unseen, license)
	return true
}

// holds counts the seats that a waiting pod holds: those that it needs, and others, with which it cannot start: of another
// licence or another grant than it needs, or for another amount, or one that somebody is about to give back.
func (a *SeatAllocator) holds(p *queuedPod) (usable, others int) {
	for _, license := range a.Ledgers.LicensesOf(p.uid) {
		ledger := a.Ledgers.Ledger(license)
		i := slices.IndexFunc(p.needs, func(n seatNeed) bool { return n.license.Name == license })
		if i < 0 || ledger == nil {
			others++
		} else if h, ok := ledger.Holder(p.uid); ok && sameAmount(h.Amount, p.needs[i].amount) && h.Grant.UID == p.needs[i].grant.UID && h.Until.IsZero() {
			usable++
		} else if ok {
			others++
		}
	}
	return usable, others
}

// unseated lists the pods that run under a licence and do not hold their seat by its ledger.
func (q *SeatQueue) unseated(license string, ledger *seats.Ledger) []types.NamespacedName {
	q.mu.Lock()
	defer q.mu.Unlock()
	var names []types.NamespacedName
	for uid, p := range q.licenses[license] {
		if p.state != seatHeld || p.ending || p.lost {
			continue
		}
		if ledger != nil {
			if _, ok := ledger.Holder(uid); ok {
				continue
			}
		}
		names = append(names, p.name)
	}
	return names
}

// queued adds the pods that wait for licences of the scene and no others, and the groups of its licences.
func (q *SeatQueue) queued(s *allocScene) {
	q.mu.Lock()
	defer q.mu.Unlock()
	groups := map[string]bool{} // whether they can be planned
	for name := range s.licenses {
		for _, p := range q.licenses[name] {
			if _, known := groups[p.group]; !known && p.group != "" {
				groups[p.group] = q.whole(p.group, s) && !q.gathers(p.group, s.now)
			}
			if p.state != seatInQueue || p.partial || p.needs[0].license.Name != name && s.licenses[p.needs[0].license.Name] != nil {
				continue // one of several licences is enough to find it by
			}
			if slices.ContainsFunc(p.needs, func(n seatNeed) bool { return s.licenses[n.license.Name] == nil }) {
				continue
			}
			if p.group != "" && !groups[p.group] {
				s.left = append(s.left, name)
				continue
			}
			s.waiting = append(s.waiting, *p)
			if replaces := q.replaces(p); len(replaces) > 0 {
				s.surges[p.uid] = replaces
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s.groups = append(s.groups, q.groupState(key))
	}
}

// whole says whether all licences that the waiting pods of a group need are in the scene: a part of it would start alone.
func (q *SeatQueue) whole(group string, s *allocScene) bool {
	for _, p := range q.groups[group] {
		if p.state == seatInQueue && slices.ContainsFunc(p.needs, func(n seatNeed) bool { return s.licenses[n.license.Name] == nil }) {
			return false
		}
	}
	return true
}

// gathers says whether more pods of a group are likely to come, so that those that are here do not start without them: its
// pods do not say how many they are, none has begun, and the newest is young. Its age is not told where the clocks are far apart.
func (q *SeatQueue) gathers(group string, now time.Time) bool {
	var newest time.Time
	for _, p := range q.groups[group] {
		if p.groupSize > 0 || p.state == seatHeld || p.allocation != nil {
			return false
		}
		if p.created.After(newest) {
			newest = p.created
		}
	}
	return now.Sub(newest).Abs() < groupGathers
}

// replaces lists the running pods of the same owner and another revision.
func (q *SeatQueue) replaces(p *queuedPod) []types.UID {
	if p.owner == "" || !slices.ContainsFunc(p.needs, func(n seatNeed) bool { return n.license.Spec.Terms.Surge != nil }) {
		return nil
	}
	var replaced []types.UID
	for uid, other := range q.owners[p.owner] {
		if other.state == seatHeld && other.revision != p.revision {
			replaced = append(replaced, uid)
		}
	}
	slices.Sort(replaced)
	return replaced
}

func (q *SeatQueue) groupState(key string) seats.GroupState {
	g := seats.GroupState{Key: key}
	for uid, p := range q.groups[key] {
		g.Size = max(g.Size, p.groupSize)
		switch {
		case p.state == seatHeld || p.allocation != nil:
			g.Held = append(g.Held, uid)
		case p.state == seatFinished:
			g.Finished++
		}
	}
	slices.Sort(g.Held)
	return g
}
