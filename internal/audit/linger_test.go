package audit

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// TestDue says when the next record is written, by what waits and when the last record was.
func TestDue(t *testing.T) {
	const linger = 200 * time.Millisecond
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	for name, test := range map[string]struct {
		lastWrite, lastSize   int // ms after noon, entries
		fresh                 int // how many of the spare records are left
		conflict              int // ms after noon
		oldest, count         int // ms after noon when the first of the waiting came, how many
		reserved              bool
		now                   int
		due                   int
		atOnce, nothing, turn bool
	}{
		"nothing waits":                            {lastWrite: -1000, nothing: true},
		"the first entry of all":                   {lastWrite: -1e9, oldest: 0, count: 1, due: 2},
		"the first release of all":                 {lastWrite: -1e9, oldest: 0, count: 1, reserved: true, due: 2},
		"the first after a quiet time":             {lastWrite: -201, oldest: 0, count: 1, due: 2},
		"one soon after the last record":           {lastWrite: -50, oldest: 0, count: 1, due: 150},
		"one soon after a few records":             {lastWrite: -50, fresh: 1, oldest: 0, count: 1, due: 2},
		"one soon after the first of all":          {lastWrite: -1, fresh: spare - 1, oldest: 0, count: 1, due: 2},
		"one that came while a record was written": {lastWrite: 90, oldest: 0, count: 5, due: 200},
		"one long before the end of a slow write":  {lastWrite: 900, oldest: 0, count: 5, now: 900, due: 200},
		"a full record":                            {lastWrite: 0, lastSize: 1, oldest: 0, count: MaxRecordEntries, atOnce: true},
		"as many as the last record had":           {lastWrite: 0, lastSize: 64, oldest: 0, count: 64, atOnce: true},
		"fewer than the last record had":           {lastWrite: 0, lastSize: 64, oldest: 0, count: 63, due: 200},
		"as many as the last, but few":             {lastWrite: 0, lastSize: 3, oldest: 0, count: 3, due: 200},
		"a burst after few":                        {lastWrite: 0, lastSize: 1, oldest: 0, count: burst, atOnce: true},
		"a burst while others write":               {lastWrite: 0, lastSize: 1, conflict: -10, oldest: 0, count: burst, turn: true},
		"a burst long after others wrote":          {lastWrite: 0, lastSize: 1, conflict: -6000, oldest: 0, count: burst, atOnce: true},
	} {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakeClock(at(test.oldest))
			l := newLog(t, newClient(t), func(o *Options) { o.Linger, o.Clock = linger, clock })
			clock.SetTime(at(test.lastWrite))
			for range spare - test.fresh {
				l.settle()
			}
			clock.SetTime(at(test.oldest))
			l.lastCommit, l.lastSize = at(test.lastWrite), test.lastSize
			if test.conflict != 0 {
				l.lastConflict = at(test.conflict)
			}
			for range test.count {
				e := Entry{Type: GrantChanged}
				if test.reserved {
					e.Type = KeyReleased
				}
				l.Submit(e)
			}
			clock.SetTime(at(test.now))
			due, ok := l.due()
			want := at(test.due)
			switch {
			case test.nothing:
				want = time.Time{}
			case test.atOnce:
				want = time.Time{}
			case test.turn:
				want = at(test.lastWrite).Add(linger / 4)
			}
			if ok == test.nothing || !due.Equal(want) {
				t.Errorf("due %v, %t; want %v", due.Sub(noon), ok, want.Sub(noon))
			}
		})
	}
}

// TestRecordsUnderLoad: a few records go at once, then no more than one each Linger, until it has been quiet.
func TestRecordsUnderLoad(t *testing.T) {
	const linger, step = 200 * time.Millisecond, 20 * time.Millisecond
	clock := clocktesting.NewFakeClock(noon)
	l := newLog(t, newClient(t), func(o *Options) { o.Linger, o.Clock = linger, clock })
	written := func(d time.Duration) (records int) {
		for end := clock.Now().Add(d); clock.Now().Before(end); clock.Step(step) {
			l.Submit(Entry{Type: GrantChanged})
			if due, ok := l.due(); ok && !due.After(clock.Now().Add(gather)) {
				takeBatch(l.reserved, l.ordinary)
				l.settle()
				records++
			}
		}
		return records
	}
	if n := written(2 * time.Second); n < 2000/200 || n > 2000/200+spare {
		t.Errorf("%d records in two seconds, want one each %v and %d at once", n, linger, spare)
	}
	if n := written(2 * time.Second); n > 2000/200 {
		t.Errorf("%d records in the next two seconds", n)
	}
	clock.Step(spare * linger)
	if n := written(spare * step); n != spare {
		t.Errorf("%d records at once after a quiet time, want %d", n, spare)
	}
}
