package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// backlogAtOnce is how many requests of a backlog lie in the queue at once.
	backlogAtOnce = 1000

	// backlogPause is how often it is looked whether the queue has room again.
	backlogPause = 10 * time.Millisecond
)

// backlog hands to a controller, a little at a time, what was there before the controller. A queue never gives back the
// room that it once needed: after a first list of 100,000 objects that is some 30 MB. The zero backlog is empty.
type backlog struct {
	mu      sync.Mutex
	waiting []reconcile.Request
	running bool
}

// add puts a request behind those that wait for the queue. All calls must name the same queue; its workers need not run.
func (b *backlog) add(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request], request reconcile.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, request)
	if !b.running {
		b.running = true
		go b.run(ctx, queue)
	}
}

func (b *backlog) run(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	pause := time.NewTicker(backlogPause)
	defer pause.Stop()
	for {
		requests, more := b.take(backlogAtOnce - queue.Len())
		for _, request := range requests {
			queue.Add(request)
		}
		if !more {
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

// take removes the first requests, n at most, and says whether it must be asked again.
func (b *backlog) take(n int) (requests []reconcile.Request, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(max(0, n), len(b.waiting))
	requests, b.waiting = b.waiting[:n], b.waiting[n:]
	if len(b.waiting) == 0 {
		b.waiting, b.running = nil, false
	}
	return requests, b.running
}
