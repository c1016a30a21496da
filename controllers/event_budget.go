package controllers

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of the Events about pods that got past admission and about copies: a tenant may make any number of such pods.
const (
	// findEventsEvery is how often a namespace has another Event once findEventsBurst are used up.
	findEventsEvery = time.Minute
	findEventsBurst = 30
	// maxFindNamespaces is how many namespaces are counted apart; further ones have what is left of one.
	maxFindNamespaces = 1024
)

// eventBudget bounds Events by namespace.
type eventBudget struct {
	mu         sync.Mutex
	namespaces map[string]*rate.Limiter
}

// take reports whether there is to be another Event in a namespace.
func (b *eventBudget) take(now time.Time, namespace string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.namespaces == nil {
		b.namespaces = map[string]*rate.Limiter{}
	}
	limiter := b.namespaces[namespace]
	if limiter == nil {
		if len(b.namespaces) >= maxFindNamespaces {
			b.forget(now)
		}
		if len(b.namespaces) >= maxFindNamespaces {
			namespace = "" // which no namespace is called
			limiter = b.namespaces[namespace]
		}
		if limiter == nil {
			limiter = rate.NewLimiter(rate.Every(findEventsEvery), findEventsBurst)
			b.namespaces[namespace] = limiter
		}
	}
	return limiter.AllowN(now, 1)
}

// forget drops the namespaces that have all that they had.
func (b *eventBudget) forget(now time.Time) {
	for namespace, limiter := range b.namespaces {
		if limiter.TokensAt(now) >= findEventsBurst {
			delete(b.namespaces, namespace)
		}
	}
}
