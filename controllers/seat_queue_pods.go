package controllers

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// put tells the queue what a pod is now, and returns the pod as it stands in the queue. A pod that is taking its seats goes
// on doing so until release or settle; what it was told is kept.
func (q *SeatQueue) put(p queuedPod) queuedPod {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range p.needs {
		p.needs[i].amount = q.shared(&p.needs[i])
	}
	old := q.pods[p.name]
	if old != nil && old.uid == p.uid {
		if old.state == seatHeld && (p.state == seatInQueue || p.state == seatBehindGates) {
			return *old // gates are never added to a pod: what is told here is older
		}
		p.partial, p.mayHold, p.due, p.dueSince, p.asked = old.partial, old.mayHold, old.due, old.dueSince, old.asked
		if old.told != (verdict{}) {
			p.told = old.told
		}
		if p.state == seatInQueue && old.state == seatTaking {
			p.state, p.allocation = seatTaking, old.allocation
		}
		if p.state != seatInQueue && p.state != seatTaking {
			p.partial = false
		}
		if p.state == old.state && sameNeeds(p.needs, old.needs) {
			old.needs, old.told, old.ending, old.lost = p.needs, p.told, p.ending, p.lost
			return *old
		}
	}
	// A pod that has its seats and loses its gate leaves others as they are.
	quiet := old != nil && old.uid == p.uid && old.state == seatTaking && p.state == seatHeld && sameNeeds(p.needs, old.needs)
	if old != nil {
		q.remove(old, quiet)
	}
	q.insert(&p, quiet)
	return p
}

// lookedAtToShare is among how many pods of a licence one of an equal amount is looked for.
const lookedAtToShare = 4

// shared is the amount of a need, the same as that of another pod of the licence where it is equal: those that are copies of
// one pod would each keep a map of their own.
func (q *SeatQueue) shared(n *seatNeed) corev1.ResourceList {
	looked := 0
	for _, p := range q.licenses[n.license.Name] {
		for i := range p.needs {
			if other := p.needs[i].amount; p.needs[i].license.Name == n.license.Name && maps.EqualFunc(other, n.amount, sameQuantity) {
				return other
			}
		}
		if looked++; looked == lookedAtToShare {
			break
		}
	}
	return n.amount
}

func sameQuantity(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }

func (q *SeatQueue) insert(p *queuedPod, quiet bool) {
	q.pods[p.name], q.byUID[p.uid] = p, p
	q.place(p)
	for _, n := range p.needs {
		addTo(q.licenses, n.license.Name, p)
		if !quiet {
			q.change(n.license.Name)
		} else {
			q.tell(n.license.Name) // it waits no longer, which changes nothing for those who do
		}
	}
	addTo(q.owners, p.owner, p)
	addTo(q.groups, p.group, p)
}

func (q *SeatQueue) remove(p *queuedPod, quiet bool) {
	delete(q.pods, p.name)
	delete(q.byUID, p.uid)
	delete(q.waiting, p.uid)
	delete(q.underway, p.uid)
	for _, n := range p.needs {
		removeFrom(q.licenses, n.license.Name, p)
		if !quiet {
			q.change(n.license.Name)
		}
	}
	removeFrom(q.owners, p.owner, p)
	removeFrom(q.groups, p.group, p)
}

// place keeps the sets of pods by state.
func (q *SeatQueue) place(p *queuedPod) {
	delete(q.waiting, p.uid)
	delete(q.underway, p.uid)
	switch p.state {
	case seatBehindGates, seatInQueue:
		q.waiting[p.uid] = p
	case seatTaking:
		q.underway[p.uid] = p
	}
}

func addTo(index map[string]map[types.UID]*queuedPod, key string, p *queuedPod) {
	if key == "" {
		return
	}
	if index[key] == nil {
		index[key] = map[types.UID]*queuedPod{}
	}
	index[key][p.uid] = p
}

func removeFrom(index map[string]map[types.UID]*queuedPod, key string, p *queuedPod) {
	if delete(index[key], p.uid); len(index[key]) == 0 {
		delete(index, key)
	}
}

// drop forgets the pod of a name, of whatever UID, and says whether it knew one.
func (q *SeatQueue) drop(name types.NamespacedName) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.pods[name]
	if p != nil {
		q.remove(p, false)
	}
	return p != nil
}

// release puts a pod that was taking its seats back into the queue.
func (q *SeatQueue) release(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil && p.state == seatTaking {
		// Who was to tell it what it waits for may have found that it was taking its seats.
		p.state, p.allocation, p.mayHold, p.asked = seatInQueue, nil, true, verdict{}
		q.place(p)
		for _, n := range p.needs {
			q.change(n.license.Name)
		}
	}
}

// begin says that the allocator is about to take a pod's seats; false where the pod is not in the queue any more.
func (q *SeatQueue) begin(uid types.UID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.byUID[uid]
	if p == nil || p.state != seatInQueue {
		return false
	}
	p.state, p.allocation, p.partial = seatTaking, nil, false
	q.place(p)
	return true
}

// allocated says that a pod has all its seats.
func (q *SeatQueue) allocated(uid types.UID, a allocation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil && p.state == seatTaking {
		p.allocation = &a
	}
}

// stale says that what was read of a pod that has its seats is no longer what is stored.
func (q *SeatQueue) stale(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil && p.allocation != nil {
		p.allocation = &allocation{confine: p.allocation.confine}
	}
}

// change asks for another look at a licence. The caller holds the lock.
func (q *SeatQueue) change(license string) {
	q.changed[license] = true
	q.tell(license)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// tell tells the subscribers that what waits for a licence may have changed. The caller holds the lock.
func (q *SeatQueue) tell(license string) {
	for _, tell := range q.subscribers {
		tell(license)
	}
}

// touch asks for another look at a licence: its ledger or its terms have changed.
func (q *SeatQueue) touch(license string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.change(license)
}

// filled says that every pod that there was at the start is known: from then on seats are taken.
func (q *SeatQueue) filled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.complete = true
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// takeChanged returns the licences that ask for a look, and all that are tied to them by pods, or groups, that wait for both.
func (q *SeatQueue) takeChanged() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.complete {
		return nil
	}
	all, open := q.changed, slices.Collect(maps.Keys(q.changed))
	q.changed = map[string]bool{}
	tie := func(p *queuedPod) {
		for _, n := range p.needs {
			if !all[n.license.Name] {
				all[n.license.Name] = true
				open = append(open, n.license.Name)
			}
		}
	}
	groups := map[string]bool{}
	for len(open) > 0 {
		license := open[len(open)-1]
		open = open[:len(open)-1]
		for _, p := range q.licenses[license] {
			if p.state != seatInQueue {
				continue
			}
			tie(p)
			if p.group == "" || groups[p.group] {
				continue
			}
			groups[p.group] = true
			for _, member := range q.groups[p.group] {
				if member.state == seatInQueue {
					tie(member)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// takingNow is how many pods are taking their seats, or have them and their gate.
func (q *SeatQueue) takingNow() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.underway)
}
