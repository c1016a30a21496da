package trustedtime

import "time"

const (
	// confirmAfter is for how long a stamp is held at least, and confirmStamps how many probes must agree with it meanwhile,
	// and none of all stamps may disagree. Of three API servers one that is wrong answers so many probes in a row, each over a
	// connection of its own, in one of a thousand cases; one that is set right within minutes does no harm at all.
	confirmAfter  = 10 * time.Minute
	confirmStamps = 7
)

// held is a stamp that is not believed yet.
type held struct {
	// base is what the time was when Elapsed was zero, if the stamp is right. since is when it came, by Elapsed.
	base  time.Time
	since time.Duration
	// probes is how many probes said the same.
	probes int
}

func (h *held) now(source Source) time.Time { return h.base.Add(source.Elapsed()).UTC() }

// leaps says whether a moment is too far ahead to be believed at once. Nothing is, as long as nothing is known. Before the
// first fresh stamp Now is not before the machine's time, so that an operator which was away for a day does not hold what
// its machine confirms. From then on the machine's clock confirms nothing: it may be that of the wrong API server.
func (c *Clock) leaps(at time.Time) bool { return c.known && at.Sub(c.now()) > MaxSkew }

// confirms takes notice of a stamp that leaps, and says whether it is to be believed by now. One that agrees with none
// before it is held from now on.
func (c *Clock) confirms(at time.Time, probed bool) bool {
	elapsed := c.source.Elapsed()
	if c.held == nil || at.Sub(c.held.now(c.source)).Abs() > MaxSkew {
		c.hold(at.Add(-elapsed))
	}
	if probed {
		c.held.probes++
	}
	return c.held.probes >= confirmStamps && elapsed-c.held.since >= confirmAfter
}

// hold holds what the time was when Elapsed was zero, by a stamp that is not believed yet.
func (c *Clock) hold(base time.Time) {
	c.held = &held{base: base, since: c.source.Elapsed()}
	select {
	case c.alarm <- struct{}{}:
	default:
	}
}

// Held is the time by a stamp that is far ahead of Now and is not confirmed; false where there is none. Nothing may end by
// it, and nothing new begin that has ended by it: whoever has kept this clock behind gains nothing new by that.
func (c *Clock) Held() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return time.Time{}, false
	}
	return c.held.now(c.source), true
}

// Credible says whether a creation time may be one that the API server's clock has shown by now, as far as is known: none is
// that is far ahead of Now.
func (c *Clock) Credible(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaps(at)
}
