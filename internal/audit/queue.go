package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// item is an entry on its way into the log.
type item struct {
	entry  Entry
	leaf   string
	stored int // bytes in etcd
	order  uint64
	queued time.Time
	// done takes the outcome, once. It is nil if nobody waits.
	done chan outcome
	// abandoned is set when the waiter has gone; the item is then dropped, unless it has been tried already.
	abandoned atomic.Bool
	// lost is how many entries the Gap entry has to speak of if this one cannot be written.
	lost int64
}

type outcome struct {
	index int64
	err   error
}

func (i *item) finish(o outcome) {
	if i.done != nil {
		i.done <- o
	}
}

// queue is a bounded first-in-first-out queue of items.
type queue struct {
	slots chan struct{} // one for each item, so that who finds it full can wait for room or for its context
	mu    sync.Mutex
	items []*item
}

func newQueue(capacity int) *queue { return &queue{slots: make(chan struct{}, capacity)} }

// put waits for room. It fails when the context or the log ends first.
func (q *queue) put(ctx context.Context, stopped <-chan struct{}, i *item) error {
	select {
	case q.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-stopped:
		return ErrStopped
	}
	q.append(i)
	return nil
}

// tryPut does not wait. It returns false if the queue is full.
func (q *queue) tryPut(i *item) bool {
	select {
	case q.slots <- struct{}{}:
		q.append(i)
		return true
	default:
		return false
	}
}

func (q *queue) append(i *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, i)
}

// take removes the oldest items that fit in the budget, and returns them. Abandoned ones are thrown away.
func (q *queue) take(b *budget) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*item
	n := 0
	for ; n < len(q.items); n++ {
		i := q.items[n]
		if !i.abandoned.Load() {
			if !b.fits(i) {
				break
			}
			b.use(i)
			out = append(out, i)
		}
		<-q.slots
		q.items[n] = nil
	}
	q.items = q.items[n:]
	if len(q.items) == 0 {
		q.items = nil
	}
	return out
}

// oldest is when the oldest item was queued, and false if the queue is empty.
func (q *queue) oldest() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return time.Time{}, false
	}
	return q.items[0].queued, true
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// budget is the room that is left in a record.
type budget struct{ entries, bytes int }

func (b *budget) fits(i *item) bool { return b.entries > 0 && i.stored <= b.bytes }

func (b *budget) use(i *item) {
	b.entries--
	b.bytes -= i.stored
}
