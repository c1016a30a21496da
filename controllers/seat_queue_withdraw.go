package controllers

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// took are the licences of which a waiting pod has seats, or may have, as the queue knows; taking says that it is about to have
// some.
func (q *SeatQueue) took(pod types.UID) (licenses []string, taking bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byUID[pod].took()
}

// withdraw is took, and has the pod take none any more: one without seats is forgotten, another stays known until it has given
// them back.
func (q *SeatQueue) withdraw(pod types.UID) (licenses []string, taking bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.byUID[pod]
	licenses, taking = p.took()
	switch {
	case p == nil || taking:
	case p.allocation != nil:
		a := *p.allocation
		a.withdrawn, p.allocation = true, &a
	case p.mayHold:
		p.state, p.allocation = seatTaking, &allocation{taken: p.needs, withdrawn: true}
		q.place(p)
	default:
		q.remove(p, false)
	}
	return licenses, taking
}

// left forgets a pod that has given back its seats, and any other of its name, which is gone. One that somebody has put into the
// queue since waits again, and nobody else looks at it.
func (q *SeatQueue) left(name types.NamespacedName, pod types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.pods[name]; p != nil && (p.uid != pod || p.allocation != nil && p.allocation.withdrawn) {
		q.remove(p, false)
	}
}

func (p *queuedPod) took() (licenses []string, taking bool) {
	if p == nil || p.allocation == nil && !p.mayHold && p.state != seatTaking {
		return nil, false
	}
	needs := p.needs
	if p.allocation != nil {
		needs = slices.Concat(p.allocation.taken, needs)
	}
	for _, n := range needs {
		licenses = append(licenses, n.license.Name)
	}
	return licenses, p.state == seatTaking && p.allocation == nil
}
