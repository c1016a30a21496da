package limit

import (
	"container/list"
	"time"
)

// Recent holds a value for each of the keys that were used last: at most so many, and each for so long after its last use.
// It is not safe for concurrent use.
type Recent[K comparable, V any] struct {
	size  int
	keep  time.Duration
	found map[K]*list.Element
	order *list.List // of *used[K, V], the latest first
}

type used[K comparable, V any] struct {
	key   K
	value V
	last  time.Time
}

// NewRecent returns an empty Recent for at most size keys, at least 1, each of which is kept for a time after its last use.
func NewRecent[K comparable, V any](size int, keep time.Duration) *Recent[K, V] {
	return &Recent[K, V]{size: size, keep: keep, found: map[K]*list.Element{}, order: list.New()}
}

// Use returns the value of a key, the zero value where there was none. It may be changed until the next call.
func (r *Recent[K, V]) Use(now time.Time, key K) *V {
	r.expire(now)
	if e := r.found[key]; e != nil {
		u := entry[K, V](e)
		u.last = now
		r.order.MoveToFront(e)
		return &u.value
	}
	if len(r.found) >= r.size {
		r.remove(r.order.Back())
	}
	u := &used[K, V]{key: key, last: now}
	r.found[key] = r.order.PushFront(u)
	return &u.value
}

// Look returns the value of a key if there is one. It is no use of the key.
func (r *Recent[K, V]) Look(now time.Time, key K) (value V, ok bool) {
	r.expire(now)
	if e := r.found[key]; e != nil {
		return entry[K, V](e).value, true
	}
	return value, false
}

// Forget removes a key.
func (r *Recent[K, V]) Forget(key K) {
	if e := r.found[key]; e != nil {
		r.remove(e)
	}
}

// Len is how many keys there are.
func (r *Recent[K, V]) Len() int { return len(r.found) }

func (r *Recent[K, V]) expire(now time.Time) {
	for e := r.order.Back(); e != nil && now.Sub(entry[K, V](e).last) >= r.keep; e = r.order.Back() {
		r.remove(e)
	}
}

func (r *Recent[K, V]) remove(e *list.Element) {
	delete(r.found, entry[K, V](e).key)
	r.order.Remove(e)
}

func entry[K comparable, V any](e *list.Element) *used[K, V] {
	return e.Value.(*used[K, V]) //nolint:forcetypeassert // nothing else is put into the list
}
