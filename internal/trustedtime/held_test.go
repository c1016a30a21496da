package trustedtime

import (
	"testing"
	"time"
)

// TestHeld: a stamp that leaps is believed once probes have confirmed it for a while, and nothing else has been stamped.
func TestHeld(t *testing.T) {
	const leap = 24 * time.Hour
	// probes asks once a minute, n times, an API server whose clock is ahead.
	probes := func(m *machineOf, c *Clock, n int, ahead time.Duration) {
		for range n {
			m.pass(time.Minute)
			c.Probed(noon.Add(m.elapsed + ahead))
		}
	}
	known := func(_ *machineOf, c *Clock) { c.Stamped(noon) }
	marked := func(_ *machineOf, c *Clock) { c.Marked(noon) }
	for name, test := range map[string]struct {
		before, do func(*machineOf, *Clock)
		// ahead is by how much the clock is ahead of the time that has passed, held by how much a held stamp is.
		ahead, held time.Duration
	}{
		"one leap": {known, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)) }, 0, leap},
		"a leap at the start, which the machine does not confirm": {marked, func(_ *machineOf, c *Clock) { c.Probed(noon.Add(leap)) }, 0, leap},
		"a leap at the start, which the machine confirms": {marked, func(m *machineOf, c *Clock) {
			m.wall = noon.Add(leap)
			c.Probed(noon.Add(leap))
		}, leap, 0},
		"a leap that the machine confirms later": {known, func(m *machineOf, c *Clock) {
			m.wall = noon.Add(leap)
			c.Stamped(noon.Add(leap))
		}, 0, leap},
		"a step that is no leap": {known, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(MaxSkew)) }, MaxSkew, 0},
		"the least leap":         {known, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(MaxSkew + time.Second)) }, 0, MaxSkew + time.Second},
		"nothing was known":      {func(*machineOf, *Clock) {}, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)) }, leap, 0},
		"records alone": {known, func(m *machineOf, c *Clock) {
			for range 60 {
				m.pass(time.Minute)
				c.Stamped(noon.Add(m.elapsed + leap))
			}
		}, 0, leap},
		"confirmed":              {known, func(m *machineOf, c *Clock) { probes(m, c, 11, leap) }, leap, 0},
		"confirmed, about":       {known, func(m *machineOf, c *Clock) { probes(m, c, 10, leap); probes(m, c, 1, leap-time.Minute) }, leap - time.Minute, 0},
		"confirmed at the start": {marked, func(m *machineOf, c *Clock) { probes(m, c, 11, leap) }, leap, 0},
		"not for long enough":    {known, func(m *machineOf, c *Clock) { probes(m, c, 10, leap) }, 0, leap},
		"not by enough": {known, func(m *machineOf, c *Clock) {
			c.Probed(noon.Add(leap))
			m.pass(time.Hour)
			c.Probed(noon.Add(time.Hour + leap))
		}, 0, leap},
		"refuted by a probe": {known, func(m *machineOf, c *Clock) { probes(m, c, 10, leap); probes(m, c, 1, 0) }, 0, 0},
		"refuted by a record": {known, func(m *machineOf, c *Clock) {
			probes(m, c, 10, leap)
			m.pass(time.Minute)
			c.Stamped(noon.Add(m.elapsed))
		}, 0, 0},
		"refuted now and then":                        {known, func(m *machineOf, c *Clock) { probes(m, c, 8, leap); probes(m, c, 1, 0); probes(m, c, 8, leap) }, 0, leap},
		"another leap instead":                        {known, func(m *machineOf, c *Clock) { probes(m, c, 10, leap); probes(m, c, 9, leap/2) }, 0, leap / 2},
		"a mark that leaps":                           {known, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)); c.Marked(noon.Add(leap)) }, leap, 0},
		"a reset while it waits":                      {known, func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)); c.Reset(noon) }, 0, 0},
		"a mark set back behind what was stamped":     {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)) }, func(_ *machineOf, c *Clock) { c.moved(noon.Add(leap), noon) }, 0, leap},
		"what was stamped before the mark, confirmed": {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)); c.Reset(noon) }, func(m *machineOf, c *Clock) { probes(m, c, 10, leap) }, leap, 0},
		"what was stamped before the mark, refuted":   {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(leap)); c.Reset(noon) }, func(_ *machineOf, c *Clock) { c.Stamped(noon) }, 0, 0},
		"a machine that was held":                     {known, func(m *machineOf, c *Clock) { m.wall = noon.Add(leap); probes(m, c, 11, leap) }, leap, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machineOf{wall: noon}
			c := New(m)
			test.before(m, c)
			test.do(m, c)
			if got := c.Now().Sub(noon) - m.elapsed; got != test.ahead {
				t.Errorf("it is %v ahead, want %v", got, test.ahead)
			}
			at, held := c.Held()
			if held != (test.held > 0) || held && at.Sub(noon)-m.elapsed != test.held {
				t.Errorf("held %v, %t, want %v", at.Sub(noon)-m.elapsed, held, test.held)
			}
			skew, known := c.Skew()
			if !known || skew.Held != test.held-min(test.ahead, test.held) || skew.Held > 0 && !skew.Exceeds() {
				t.Errorf("skew %+v, %t", skew, known)
			}
		})
	}
}

func TestCredible(t *testing.T) {
	m := &machineOf{wall: noon}
	c := New(m)
	if !c.Credible(noon.Add(time.Hour)) {
		t.Error("a time is not credible while nothing is known")
	}
	c.Stamped(noon)
	m.wall = noon.Add(time.Hour)
	for at, want := range map[time.Duration]bool{-time.Hour: true, 0: true, MaxSkew: true, MaxSkew + time.Second: false, time.Hour: false} {
		if got := c.Credible(noon.Add(at)); got != want {
			t.Errorf("%v after noon is credible: %t", at, got)
		}
	}
}
