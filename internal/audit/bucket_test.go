package audit

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	rate := Rate{Burst: 100, Hourly: 60} // one a minute
	type use struct {
		after time.Duration
		bytes int64
		want  bool
	}
	for name, uses := range map[string][]use{
		"the burst and no more":          {{0, 60, true}, {0, 40, true}, {0, 1, false}},
		"more than the burst":            {{0, 101, false}},
		"what comes back":                {{0, 100, true}, {10 * time.Minute, 11, false}, {0, 10, true}},
		"never more than the burst":      {{0, 100, true}, {1000 * time.Hour, 101, false}, {0, 100, true}, {0, 1, false}},
		"parts of a byte are not lost":   {{0, 100, true}, {30 * time.Second, 1, false}, {30 * time.Second, 1, true}},
		"a clock set back gives nothing": {{0, 100, true}, {-time.Hour, 1, false}, {time.Minute, 2, false}, {0, 1, true}},
	} {
		t.Run(name, func(t *testing.T) {
			b, now := newBucket(rate), noon
			for n, u := range uses {
				now = now.Add(u.after)
				got := b.has(now, u.bytes)
				if got {
					b.use(now, u.bytes)
				}
				if got != u.want {
					t.Fatalf("use %d: %v, want %v", n, got, u.want)
				}
			}
		})
	}
}

// TestBucketIsPaidBack: what was overdrawn counts against the average.
func TestBucketIsPaidBack(t *testing.T) {
	b := newBucket(Rate{Burst: 100, Hourly: 60})
	b.use(noon, 160)
	if b.has(noon.Add(59*time.Minute), 0) || b.has(noon.Add(time.Hour), 1) || !b.has(noon.Add(61*time.Minute), 1) {
		t.Error("an overdrawn bucket is not paid back at its rate")
	}
	if b.full(noon.Add(159*time.Minute)) || !b.full(noon.Add(161*time.Minute)) {
		t.Error("the bucket is not full when all is paid back")
	}
}

// TestBucketAverage uses whatever there is, at odd moments, for a week.
func TestBucketAverage(t *testing.T) {
	b := newBucket(Rate{Burst: 1000, Hourly: 3600})
	var used int64
	const week = 7 * 24 * time.Hour
	step := 1234567 * time.Microsecond
	for at := time.Duration(0); at < week; at += step {
		if b.has(noon.Add(at), 7) {
			b.use(noon.Add(at), 7)
			used += 7
		}
	}
	if limit := int64(1000 + 3600*7*24); used > limit || used < limit*99/100 {
		t.Errorf("%d bytes in a week, want %d", used, limit)
	}
}
