package controllers

import (
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
	// freshRate and freshBurst are for new pods, staleRate and staleBurst for all others: a licence for what 50,000 pods
	// run already is worked off within the hour.
	freshRate, freshBurst = 20, 60
	staleRate, staleBurst = 20, 60
)

// foundPace spreads the work on pods that got past admission over time, each getting a turn of its own.
type foundPace struct {
	mu           sync.Mutex
	fresh, stale *rate.Limiter
	turns        map[types.NamespacedName]time.Time
}

// wait is how long a pod has to wait for its turn; zero once, when it has come.
func (p *foundPace) wait(pod types.NamespacedName, now, created time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turns == nil {
		p.turns = map[types.NamespacedName]time.Time{}
		p.fresh, p.stale = rate.NewLimiter(freshRate, freshBurst), rate.NewLimiter(staleRate, staleBurst)
	}
	turn, waiting := p.turns[pod]
	if !waiting {
		limiter := p.stale
		if now.Sub(created) < freshFor {
			limiter = p.fresh
		}
		turn = now.Add(limiter.ReserveN(now, 1).DelayFrom(now))
	}
	if wait := turn.Sub(now); wait > 0 {
		p.turns[pod] = turn
		return wait
	}
	delete(p.turns, pod)
	return 0
}

// gone forgets a pod that waits for its turn no longer.
func (p *foundPace) gone(pod types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.turns, pod)
}
