package controllers

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// measuredQueue remembers the most requests that ever lay in it.
type measuredQueue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	most atomic.Int64
}

func (q *measuredQueue) Add(r reconcile.Request) {
	q.TypedRateLimitingInterface.Add(r)
	q.most.Store(max(q.most.Load(), int64(q.Len())))
}

func TestBacklogFillsTheQueueLittleByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		queue := &measuredQueue{TypedRateLimitingInterface: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())}
		defer queue.ShutDown()
		var b backlog
		const all = 5*backlogAtOnce + 1
		seen := map[reconcile.Request]bool{}
		for range 2 { // it can be filled again after it was empty
			for i := range all {
				b.add(ctx, queue, reconcile.Request{NamespacedName: client.ObjectKey{Name: fmt.Sprint(i)}})
			}
			for len(seen) < all {
				request, _ := queue.Get()
				seen[request] = true
				queue.Done(request)
			}
			clear(seen)
			time.Sleep(2 * backlogPause)
		}
		if most := queue.most.Load(); most > backlogAtOnce {
			t.Errorf("%d requests lay in the queue at once, want %d at most", most, backlogAtOnce)
		}
		if b.waiting != nil || b.running {
			t.Errorf("%d requests wait still", len(b.waiting))
		}
	})
}
