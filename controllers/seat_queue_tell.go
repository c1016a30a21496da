package controllers

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/internal/seats"
)

// tellAfter is for how long a pod waits before it is told so: most get their seats at once, and are spared the write.
const tellAfter = 500 * time.Millisecond

// alike says whether being told b says nothing new to who was told a. Far behind, the message alone changes.
func (v verdict) alike(b verdict) bool {
	if v.position < 0 || b.position < 0 { // of one of them the condition's text is all that is known
		return v.reason == b.reason && v.message == b.message
	}
	return v.reason == b.reason && min(v.position, seats.ExactPositions+1) == min(b.position, seats.ExactPositions+1)
}

// owe says what a waiting pod is to be told.
func (q *SeatQueue) owe(uid types.UID, v verdict, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.byUID[uid]
	if p == nil || p.state == seatTaking || p.state == seatHeld {
		return
	}
	if p.due == (verdict{}) {
		p.dueSince = now
	}
	p.due = v
}

// untold returns up to n pods that are to be told something new, those first in the queue before others, and for how long
// nobody else is due. Each is returned once for what it is to be told.
func (q *SeatQueue) untold(n int, now time.Time) []types.NamespacedName {
	q.mu.Lock()
	defer q.mu.Unlock()
	var owed []*queuedPod
	for _, p := range q.waiting {
		if p.due == (verdict{}) || p.due.alike(p.told) || p.due.alike(p.asked) || now.Sub(p.dueSince) < tellAfter {
			continue
		}
		owed = append(owed, p)
	}
	slices.SortFunc(owed, func(a, b *queuedPod) int {
		return cmp.Or(cmp.Compare(a.due.position, b.due.position), a.created.Compare(b.created), cmp.Compare(a.uid, b.uid))
	})
	names := make([]types.NamespacedName, 0, n)
	for _, p := range owed[:min(n, len(owed))] {
		p.asked = p.due
		names = append(names, p.name)
	}
	return names
}

// told says that a pod was told something.
func (q *SeatQueue) told(uid types.UID, v verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.byUID[uid]; p != nil {
		p.told = v
	}
}
