package controllers

import (
	"container/heap"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of what the leader does about pods that got past admission, each of which costs some seven requests. Together
// they leave the greater part of the live reads, of which there are 100 a second, to the webhooks.
const (
	// freshFor is how long a pod is new, and waits behind other new ones alone.
	freshFor = 5 * time.Minute
	// freshRate and freshBurst are for new pods, staleRate and staleBurst for all others.
	freshRate, freshBurst = 20, 60
	staleRate, staleBurst = 20, 60
	// paceShareRate and paceShareBurst are what one namespace has of either: others have the rest. A licence for what 50,000
	// pods of a namespace run already is worked off within the hour.
	paceShareRate, paceShareBurst = 15, 45
)

// foundPace spreads the work on pods that got past admission over time, each getting a turn of its own: first among the
// pods of its namespace, then among all.
type foundPace struct {
	mu           sync.Mutex
	fresh, stale pace
	turns        map[types.NamespacedName]paceTurn
}

// pace gives turns to pods of one age. Of maxFindNamespaces namespaces, each has a share; further ones have one together.
type pace struct {
	all        *paceSlots
	namespaces map[string]*paceSlots
}

// paceTurn is when a pod's turn comes, who gave it, and who gives the next; nil where it is the last.
type paceTurn struct {
	at       time.Time
	of, then *paceSlots
}

// wait is how long a pod has to wait for its turn; zero once, when it has come.
func (p *foundPace) wait(pod types.NamespacedName, now, created time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turns == nil {
		p.turns = map[types.NamespacedName]paceTurn{}
		p.fresh, p.stale = newPace(freshRate, freshBurst), newPace(staleRate, staleBurst)
	}
	turn, waiting := p.turns[pod]
	if !waiting {
		of := &p.stale
		if now.Sub(created) < freshFor {
			of = &p.fresh
		}
		turn = of.share(pod.Namespace, now).next(now)
		turn.then = of.all
	}
	if turn.then != nil && !turn.at.After(now) {
		turn = turn.then.next(now)
	}
	if wait := turn.at.Sub(now); wait > 0 {
		p.turns[pod] = turn
		return wait
	}
	delete(p.turns, pod)
	return 0
}

// gone hands back the turn of a pod that waits for it no longer.
func (p *foundPace) gone(pod types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn, waiting := p.turns[pod]; waiting {
		delete(p.turns, pod)
		heap.Push(&turn.of.free, turn.at)
	}
}

func newPace(limit rate.Limit, burst int) pace {
	return pace{all: &paceSlots{limiter: rate.NewLimiter(limit, burst)}, namespaces: map[string]*paceSlots{}}
}

// share is what gives turns to the pods of a namespace.
func (p *pace) share(namespace string, now time.Time) *paceSlots {
	if s := p.namespaces[namespace]; s != nil {
		return s
	}
	if len(p.namespaces) >= maxFindNamespaces {
		for name, s := range p.namespaces {
			if s.limiter.TokensAt(now) >= paceShareBurst { // all its turns are past
				delete(p.namespaces, name)
			}
		}
	}
	if len(p.namespaces) >= maxFindNamespaces {
		namespace = "" // which no namespace is called
		if s := p.namespaces[namespace]; s != nil {
			return s
		}
	}
	s := &paceSlots{limiter: rate.NewLimiter(paceShareRate, paceShareBurst)}
	p.namespaces[namespace] = s
	return s
}

// paceSlots gives turns one after another, those that were handed back first. (rate.Reservation.Cancel hands back only what
// was reserved last.)
type paceSlots struct {
	limiter *rate.Limiter
	free    turnHeap
}

func (s *paceSlots) next(now time.Time) paceTurn {
	for s.free.Len() > 0 {
		if at := heap.Pop(&s.free).(time.Time); !at.Before(now) {
			return paceTurn{at: at, of: s}
		}
	}
	return paceTurn{at: now.Add(s.limiter.ReserveN(now, 1).DelayFrom(now)), of: s}
}

// turnHeap are times, the earliest first.
type turnHeap []time.Time

func (h turnHeap) Len() int           { return len(h) }
func (h turnHeap) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h turnHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *turnHeap) Push(at any)       { *h = append(*h, at.(time.Time)) }

func (h *turnHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
