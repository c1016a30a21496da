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

// tellPassing is for how long it waits before it is told what is over in a moment: as where seats change hands all the time.
const tellPassing = 10 * tellAfter

// alike says whether v says nothing new to who was told b. Far behind, the message alone changes.
func (v verdict) alike(b verdict) bool {
	if b.passing && !v.passing {
		return false
	}
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

// tellAfter is for how long a pod waits at least before it is told.
func (v verdict) tellAfter() time.Duration {
	if v.passing {
		return tellPassing
	}
	return tellAfter
}

// untold returns up to n pods that are to be told something new, those first in the queue before others, and for how long
// nobody else is due. Each is returned once for what it is to be told.
func (q *SeatQueue) untold(n int, now time.Time) []types.NamespacedName {
	q.mu.Lock()
	defer q.mu.Unlock()
	var owed []*queuedPod
	for _, p := range q.waiting {
		if p.due == (verdict{}) || p.due.alike(p.told) || p.due.alike(p.asked) || now.Sub(p.dueSince) < p.due.tellAfter() {
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
