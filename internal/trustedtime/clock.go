// Package trustedtime tells the time by which licences begin and end: that of the API server, which stamps the records of
// the audit log, rather than that of the operator's machine. Between stamps it goes on by a clock that nobody can set. A
// clock that is set back, of the machine or of the API server, revives no licence; one of the machine that runs ahead ends
// none.
//
// The latest stamp is the mark, which outlives the operator in the status of the ModelAuditLog. It moves back only where
// an admin asks for it, which an entry of the audit log tells.
//
// One API server of several may have a wrong clock. So a stamp that is far ahead of what the time should be is held until
// others confirm it (Held): until then nothing ends by it, no mark is made of it, and nothing new begins that would have
// ended by it.
package trustedtime

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// MaxSkew is by how much the machine's clock and the API server's may differ before that is worth an alarm.
const MaxSkew = 5 * time.Minute

// Source is what the machine knows of the time.
type Source interface {
	// Wall is the machine's clock, which anybody who administers the machine can set.
	Wall() time.Time
	// Elapsed is the time since some moment in the past, by a clock that nobody sets, and that goes on while the machine is
	// suspended.
	Elapsed() time.Duration
}

// Machine is the Source that the process runs on.
func Machine() Source { return machine{} }

type machine struct{}

func (machine) Wall() time.Time        { return time.Now().Round(0) }
func (machine) Elapsed() time.Duration { return sinceBoot() }

// Clock is a clock.PassiveClock of the API server's time. Before it has seen a stamp it tells the machine's time, or the
// mark if that is later. From then on it never goes back, but by Reset. It is late rather than early: by less than a second
// and what a request takes, as stamps are in whole seconds. It is safe for concurrent use.
type Clock struct {
	source Source

	mu sync.Mutex
	// anchored says that a fresh stamp was seen. base is what the time was at least when Elapsed was zero: the latest of
	// what the stamps say, fresh or not.
	anchored bool
	known    bool
	base     time.Time
	// fresh is the same by the newest fresh stamp alone.
	fresh time.Time
	// held is a stamp that waits to be confirmed; nil where there is none. alarm is told when it appears.
	held  *held
	alarm chan struct{}
}

var _ clock.PassiveClock = (*Clock)(nil)

// New returns a clock that has seen nothing yet.
func New(source Source) *Clock { return &Clock{source: source, alarm: make(chan struct{}, 1)} }

// Now is the API server's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	var now time.Time
	if c.known {
		now = c.base.Add(c.source.Elapsed())
	}
	if wall := c.source.Wall(); !c.anchored && wall.After(now) {
		now = wall
	}
	return now.UTC()
}

// Since is the time between t and Now.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// Stamped takes the creation time of an object that the API server has created just now.
func (c *Clock) Stamped(at time.Time) { c.stamp(at, false) }

// Probed is Stamped for an object that was created over a connection of its own, so that any of the API servers may have
// answered. Such stamps confirm one that is held.
func (c *Clock) Probed(at time.Time) { c.stamp(at, true) }

func (c *Clock) stamp(at time.Time, probed bool) {
	if at.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaps(at) && !c.confirms(at, probed) {
		return
	}
	c.held, c.anchored = nil, true
	c.fresh = at.Add(-c.source.Elapsed())
	c.raise(c.fresh)
}

// Marked takes a mark: a time that the API server's clock is known to have shown at some moment before now.
func (c *Clock) Marked(at time.Time) {
	if at.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raise(at.Add(-c.source.Elapsed()))
}

func (c *Clock) raise(base time.Time) {
	if !c.known || base.After(c.base) {
		c.known, c.base = true, base
	}
	if c.held != nil && !c.leaps(c.held.now(c.source)) {
		c.held = nil
	}
}

// Reset takes a mark that was set back, and everything that was known before for wrong. It may be the mark that is: that of
// a backup which was restored. So what was last stamped is held where it is far ahead of the mark.
func (c *Clock) Reset(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = nil
	elapsed := c.source.Elapsed()
	c.known, c.base = true, at.Add(-elapsed)
	if !c.anchored || !c.fresh.After(c.base) {
		return
	}
	if c.leaps(c.fresh.Add(elapsed)) {
		c.hold(c.fresh)
	}
	c.fresh = c.base
}

// Skew is how the clocks differ, by the newest fresh stamp.
type Skew struct {
	// Machine is by how much the machine's clock is ahead of the API server's; below zero, behind.
	Machine time.Duration
	// Behind is by how much the API server's clock is behind what it showed earlier. It is zero or more.
	Behind time.Duration
	// Held is by how much a stamp that is not confirmed is ahead of Now; zero where there is none.
	Held time.Duration
}

// Exceeds says whether the clocks differ by more than MaxSkew.
func (s Skew) Exceeds() bool { return s.Machine.Abs() > MaxSkew || s.Behind > MaxSkew || s.Held > 0 }

// Skew tells how the clocks differ now. It is false before a fresh stamp was seen.
func (c *Clock) Skew() (Skew, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ahead time.Duration
	if c.held != nil {
		ahead = c.held.now(c.source).Sub(c.now())
	}
	if !c.anchored {
		return Skew{Held: ahead}, c.held != nil
	}
	server := c.fresh.Add(c.source.Elapsed())
	return Skew{Machine: c.source.Wall().Sub(server), Behind: c.base.Sub(c.fresh), Held: ahead}, true
}
