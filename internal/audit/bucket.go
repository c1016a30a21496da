package audit

import "time"

// Rate is a budget in bytes, as etcd stores them: up to Burst at once, and Hourly on average.
type Rate struct {
	// Burst is how much may be used at once, after a time in which little was used. In bytes.
	Burst int64
	// Hourly is how much comes back in an hour. In bytes.
	Hourly int64
}

func (r Rate) orDefault(byDefault Rate) Rate {
	if r.Burst <= 0 || r.Hourly <= 0 {
		return byDefault
	}
	return r
}

// bucket is what is left of a Rate. It may be overdrawn, for what must be written; nothing else is, then, until that is
// paid back, so that the average holds. It takes the time from its caller.
type bucket struct {
	rate  Rate
	used  int64     // may exceed the burst
	since time.Time // up to when used was paid back
}

func newBucket(rate Rate) *bucket { return &bucket{rate: rate} }

// has reports whether so many bytes may be used.
func (b *bucket) has(now time.Time, bytes int64) bool {
	b.refill(now)
	return b.used+bytes <= b.rate.Burst
}

// use takes bytes, whether they are there or not.
func (b *bucket) use(now time.Time, bytes int64) {
	b.refill(now)
	b.used += bytes
}

// full reports whether nothing would be lost if the bucket were forgotten.
func (b *bucket) full(now time.Time) bool {
	b.refill(now)
	return b.used == 0
}

// refill pays back for the time that went by. What is less than a byte is left for later; a clock that is set back pays
// nothing back.
func (b *bucket) refill(now time.Time) {
	elapsed := now.Sub(b.since)
	if elapsed < 0 && !b.since.IsZero() {
		b.since = now
		return
	}
	if b.used == 0 || elapsed.Hours() >= float64(b.used)/float64(b.rate.Hourly) {
		b.used, b.since = 0, now
		return
	}
	back := int64(elapsed.Hours() * float64(b.rate.Hourly))
	b.used -= back
	b.since = b.since.Add(time.Duration(float64(back) / float64(b.rate.Hourly) * float64(time.Hour)))
}
