// Package limit bounds how often and how many at a time something may be done for one of many keys, in bounded memory. The
// time is passed in.
package limit

import (
	"sync"
	"time"
)

// Rate allows Burst at once, and one more each time that Every has passed.
type Rate struct {
	Burst int
	Every time.Duration
}

// full is how long it takes until nothing is left of what was taken.
func (r Rate) full() time.Duration { return time.Duration(r.Burst) * r.Every }

// Bucket counts what was taken under a Rate. The zero value has had nothing taken.
type Bucket struct {
	// debt is how long, from at on, it takes until nothing is left of what was taken.
	debt time.Duration
	at   time.Time
}

// Take takes one and returns 0, or takes none and returns how long it will be until there is one.
func (b *Bucket) Take(now time.Time, r Rate) (wait time.Duration) {
	b.settle(now)
	if wait := b.debt + r.Every - r.full(); wait > 0 {
		return wait
	}
	b.debt += r.Every
	return 0
}

// GiveBack undoes a Take.
func (b *Bucket) GiveBack(now time.Time, r Rate) {
	b.settle(now)
	b.debt = max(0, b.debt-r.Every)
}

// settle moves the bucket to a time. A clock that was set back neither adds to the debt nor takes from it.
func (b *Bucket) settle(now time.Time) {
	b.debt = max(0, b.debt-max(0, now.Sub(b.at)))
	b.at = now
}

// Rates holds a Bucket for each of the keys used lately. It is safe for concurrent use.
//
// A key that was not used for as long as its bucket takes to recover is forgotten, which changes nothing; where there are more
// keys than it may hold, so is the one that was not used for longest, which then has its whole burst again.
type Rates[K comparable] struct {
	rate    Rate
	mu      sync.Mutex
	buckets *Recent[K, Bucket]
}

// NewRates returns a Rates that holds at most so many keys.
func NewRates[K comparable](rate Rate, keys int) *Rates[K] {
	return &Rates[K]{rate: rate, buckets: NewRecent[K, Bucket](keys, rate.full())}
}

// Take takes one for a key and returns 0, or takes none and returns how long it will be until there is one.
func (r *Rates[K]) Take(now time.Time, key K) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buckets.Use(now, key).Take(now, r.rate)
}

// GiveBack undoes a Take.
func (r *Rates[K]) GiveBack(now time.Time, key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buckets.Use(now, key).GiveBack(now, r.rate)
}
