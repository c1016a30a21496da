package trustedtime

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// machineOf is a machine whose two clocks tests move apart.
type machineOf struct {
	wall    time.Time
	elapsed time.Duration
}

func (m *machineOf) Wall() time.Time        { return m.wall }
func (m *machineOf) Elapsed() time.Duration { return m.elapsed }

// pass lets time pass for both.
func (m *machineOf) pass(d time.Duration) { m.wall, m.elapsed = m.wall.Add(d), m.elapsed+d }

func TestNow(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		do   func(*machineOf, *Clock)
		want time.Duration // after noon, which the machine's clock shows at first
	}{
		"knows nothing":                                {func(*machineOf, *Clock) {}, 0},
		"a mark in the future, after a restart":        {func(_ *machineOf, c *Clock) { c.Marked(noon.Add(time.Hour)) }, time.Hour},
		"goes on from a mark":                          {func(m *machineOf, c *Clock) { c.Marked(noon.Add(time.Hour)); m.pass(time.Minute) }, time.Hour + time.Minute},
		"a mark in the past, and no stamp yet":         {func(_ *machineOf, c *Clock) { c.Marked(noon.Add(-time.Hour)) }, 0},
		"no mark":                                      {func(_ *machineOf, c *Clock) { c.Marked(time.Time{}) }, 0},
		"machine far ahead":                            {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(-year)) }, -year},
		"machine far behind":                           {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(year)) }, year},
		"machine set ahead later":                      {func(m *machineOf, c *Clock) { c.Stamped(noon); m.wall = m.wall.Add(year); m.pass(time.Minute) }, time.Minute},
		"machine set back later":                       {func(m *machineOf, c *Clock) { c.Stamped(noon); m.wall = m.wall.Add(-year); m.pass(time.Minute) }, time.Minute},
		"API server set back":                          {func(m *machineOf, c *Clock) { c.Stamped(noon); m.pass(time.Hour); c.Stamped(noon.Add(-year)) }, time.Hour},
		"API server and machine set back, and restart": {func(m *machineOf, c *Clock) { m.wall = noon.Add(-year); c.Marked(noon); c.Stamped(noon.Add(-year)) }, 0},
		"a stamp that is late": {func(m *machineOf, c *Clock) {
			c.Stamped(noon)
			m.pass(10 * time.Second)
			c.Stamped(noon.Add(9 * time.Second))
		}, 10 * time.Second},
		"no stamp": {func(_ *machineOf, c *Clock) { c.Stamped(time.Time{}) }, 0},
		"reset": {func(m *machineOf, c *Clock) {
			c.Stamped(noon.Add(year))
			m.pass(time.Hour)
			c.Reset(noon.Add(time.Hour))
		}, time.Hour},
		"stamped after a reset": {func(m *machineOf, c *Clock) {
			c.Stamped(noon.Add(year))
			c.Reset(noon)
			m.pass(time.Hour)
			c.Stamped(noon.Add(time.Hour + time.Second))
		}, time.Hour + time.Second},
		"a mark that rises":       {func(_ *machineOf, c *Clock) { c.Stamped(noon); c.moved(noon, noon.Add(time.Minute)) }, time.Minute},
		"a mark that is set back": {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(year)); c.moved(noon.Add(year), noon) }, 0},
		"a mark that is gone":     {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(year)); c.moved(noon.Add(year), time.Time{}) }, year},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machineOf{wall: noon}
			c := New(m)
			test.do(m, c)
			if got := c.Now().Sub(noon); got != test.want {
				t.Errorf("it is %v after noon, want %v", got, test.want)
			}
			if got := c.Since(noon); got != test.want {
				t.Errorf("%v since noon, want %v", got, test.want)
			}
		})
	}
}

func TestSkew(t *testing.T) {
	for name, test := range map[string]struct {
		do               func(*machineOf, *Clock)
		want             Skew
		exceeds, unknown bool
	}{
		"knows nothing":           {func(*machineOf, *Clock) {}, Skew{}, false, true},
		"a mark alone":            {func(_ *machineOf, c *Clock) { c.Marked(noon.Add(time.Hour)) }, Skew{}, false, true},
		"agree":                   {func(_ *machineOf, c *Clock) { c.Stamped(noon) }, Skew{}, false, false},
		"still agree":             {func(m *machineOf, c *Clock) { c.Stamped(noon); m.pass(time.Hour) }, Skew{}, false, false},
		"within the bound":        {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(-MaxSkew)) }, Skew{Machine: MaxSkew}, false, false},
		"machine ahead":           {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(-time.Hour)) }, Skew{Machine: time.Hour}, true, false},
		"machine behind":          {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(time.Hour)) }, Skew{Machine: -time.Hour}, true, false},
		"machine set ahead later": {func(m *machineOf, c *Clock) { c.Stamped(noon); m.wall = m.wall.Add(time.Hour) }, Skew{Machine: time.Hour}, true, false},
		"both set back":           {func(m *machineOf, c *Clock) { c.Marked(noon); m.wall = noon.Add(-time.Hour); c.Stamped(m.wall) }, Skew{Behind: time.Hour}, true, false},
		"a stamp that is late": {func(m *machineOf, c *Clock) {
			c.Stamped(noon)
			m.pass(time.Minute)
			c.Stamped(noon.Add(time.Minute - time.Second))
		}, Skew{Machine: time.Second, Behind: time.Second}, false, false},
		"reset after running ahead":           {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(time.Hour)); c.Reset(noon); c.Stamped(noon) }, Skew{}, false, false},
		"reset behind what was stamped":       {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(time.Hour)); c.Reset(noon) }, Skew{Held: time.Hour}, true, false},
		"reset a little behind what was said": {func(_ *machineOf, c *Clock) { c.Stamped(noon.Add(MaxSkew)); c.Reset(noon) }, Skew{}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machineOf{wall: noon}
			c := New(m)
			test.do(m, c)
			got, known := c.Skew()
			if got != test.want || got.Exceeds() != test.exceeds {
				t.Errorf("skew %+v, exceeds %t; want %+v, %t", got, got.Exceeds(), test.want, test.exceeds)
			}
			if known == test.unknown {
				t.Errorf("skew is known: %t", known)
			}
		})
	}
}

// TestNowNeverGoesBack: once the API server was asked, whatever clocks are set to, however stamps and marks come.
func TestNowNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machineOf{wall: noon}
		c := New(m)
		c.Stamped(noon)
		jump := rapid.Int64Range(-int64(24*time.Hour), int64(24*time.Hour))
		last, highest := c.Now(), noon
		t.Repeat(map[string]func(*rapid.T){
			"time passes":    func(t *rapid.T) { m.pass(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "by"))) },
			"machine is set": func(t *rapid.T) { m.wall = m.wall.Add(time.Duration(jump.Draw(t, "by"))) },
			"stamp": func(t *rapid.T) {
				at := noon.Add(time.Duration(jump.Draw(t, "at")))
				leaps := c.leaps(at)
				c.Stamped(at)
				if !leaps {
					highest = later(highest, at)
				}
			},
			"mark": func(t *rapid.T) {
				at := noon.Add(time.Duration(jump.Draw(t, "at")))
				c.Marked(at)
				highest = later(highest, at)
			},
			"mark moves": func(t *rapid.T) {
				at := noon.Add(time.Duration(jump.Draw(t, "at")))
				c.moved(at, at.Add(time.Second))
				highest = later(highest, at)
			},
			"the mark is gone": func(*rapid.T) { c.moved(noon, time.Time{}) },
			"": func(t *rapid.T) {
				now := c.Now()
				if now.Before(last) {
					t.Fatalf("it was %v, and is %v", last, now)
				}
				if now.Before(highest) {
					t.Fatalf("it is %v, before %v, which the API server has shown", now, highest)
				}
				if by, held := c.Held(); held && by.Sub(now) < 0 {
					t.Fatalf("%v is held, and it is %v", by, now)
				}
				if latest := highest.Add(m.elapsed + time.Second); now.After(latest) {
					t.Fatalf("it is %v, after %v, which nobody but the machine can have shown", now, latest)
				}
				last = now
			},
		})
	})
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// TestMachine: the process's own clocks run together.
func TestMachine(t *testing.T) {
	m := Machine()
	first := m.Elapsed()
	if d := time.Since(m.Wall()).Abs(); d > time.Minute {
		t.Errorf("the wall clock differs by %v", d)
	}
	if m.Elapsed() < first {
		t.Error("elapsed time went back")
	}
}
