package limit

import (
	"context"
	"sync"
)

// Slots lets so many in at a time for each key, and so many wait for a place, first come, first served. It is safe for
// concurrent use and remembers only the keys for which somebody is in or waits.
type Slots[K comparable] struct {
	in, waiting int
	mu          sync.Mutex
	held        map[K]*slot
}

// slot is held by whoever sent to the channel. Users counts those that hold or want it.
type slot struct {
	places chan struct{}
	users  int
}

// NewSlots returns a Slots that lets in so many at a time for each key, at least 1, and has so many wait.
func NewSlots[K comparable](in, waiting int) *Slots[K] {
	return &Slots[K]{in: in, waiting: waiting, held: map[K]*slot{}}
}

// Enter waits for a place, and returns what gives it up again, to be called once. It returns false where too many wait
// already, or when ctx ends first. A place that is free is taken even if ctx has ended.
func (s *Slots[K]) Enter(ctx context.Context, key K) (leave func(), ok bool) {
	s.mu.Lock()
	t := s.held[key]
	if t == nil {
		t = &slot{places: make(chan struct{}, s.in)}
		s.held[key] = t
	}
	if t.users >= s.in+s.waiting {
		s.mu.Unlock()
		return nil, false
	}
	t.users++
	s.mu.Unlock()

	select {
	case t.places <- struct{}{}:
	default:
		select {
		case t.places <- struct{}{}:
		case <-ctx.Done():
			s.forget(key, t)
			return nil, false
		}
	}
	return func() {
		<-t.places
		s.forget(key, t)
	}, true
}

func (s *Slots[K]) forget(key K, t *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(s.held, key)
	}
}

// Len is the number of keys for which somebody is in or waits.
func (s *Slots[K]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}
