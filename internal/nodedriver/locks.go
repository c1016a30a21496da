package nodedriver

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// targetLocks let one call at a time work on a target: kubelet repeats a call that took too long while the first may
// still be under way. The zero value is ready.
type targetLocks struct {
	mu   sync.Mutex
	held map[string]*targetLock
}

// targetLock is held by whoever sent to the channel. Waiting counts those that hold or want it.
type targetLock struct {
	slot    chan struct{}
	waiting int
}

// lock waits for the target, and returns what frees it again, or codes.Aborted when the context ends first.
func (l *targetLocks) lock(ctx context.Context, target string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*targetLock{}
	}
	t := l.held[target]
	if t == nil {
		t = &targetLock{slot: make(chan struct{}, 1)}
		l.held[target] = t
	}
	t.waiting++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(l.held, target)
		}
	}
	select {
	case t.slot <- struct{}{}:
		return func() { <-t.slot; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, status.Error(codes.Aborted, "another call for this target is still under way; it is tried again")
	}
}
