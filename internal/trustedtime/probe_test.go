package trustedtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
)

// asked is an Asker that counts, of an API server whose clock is the machine's, shifted.
type asked struct {
	machine Source
	ahead   time.Duration
	fails   bool
	times   int
}

func (a *asked) Ask(context.Context) (time.Time, error) {
	a.times++
	if a.fails {
		return time.Time{}, errors.New("away")
	}
	return a.machine.Wall().Add(a.ahead), nil
}

// bubble is a machine by the clock of a synctest bubble, whose Elapsed a hypervisor can hold.
type bubble struct {
	began  time.Time
	paused time.Duration
}

func (b *bubble) Wall() time.Time        { return time.Now() }
func (b *bubble) Elapsed() time.Duration { return time.Since(b.began) - b.paused }

func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &bubble{began: time.Now()}
		api, c, logged := &asked{machine: m}, New(m), 0
		c.Stamped(time.Now())
		p := &Prober{Clock: c, Asker: api, Log: funcr.New(func(_, _ string) { logged++ }, funcr.Options{})}
		if p.NeedLeaderElection() {
			t.Error("only the leader asks")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Start(ctx) }()
		// after looks at how often it has asked in a time.
		after := func(d time.Duration, least, most int) {
			t.Helper()
			api.times = 0
			time.Sleep(d)
			synctest.Wait()
			if api.times < least || api.times > most {
				t.Errorf("asked %d times in %v, want %d to %d", api.times, d, least, most)
			}
		}
		late := func() time.Duration { return time.Until(c.Now()).Abs().Round(time.Minute) }

		after(9*time.Minute, 0, 0)
		after(51*time.Minute, 4, 6)

		m.paused = 4 * time.Minute // no leap: it is right at once
		after(13*time.Minute, 1, 2)
		if late() != 0 {
			t.Errorf("late by %v after a short pause", late())
		}
		m.paused += time.Hour // a leap, that all API servers confirm
		for minutes := 0; ; minutes++ {
			if _, held := c.Held(); held {
				break
			}
			if minutes == 13 {
				t.Fatal("it has not asked")
			}
			after(time.Minute, 0, 1)
		}
		after(9*time.Minute, 7, 9)
		if late() != time.Hour {
			t.Errorf("late by %v: a leap was believed too soon", late())
		}
		after(3*time.Minute, 1, 3)
		if late() != 0 || logged == 0 {
			t.Errorf("late by %v after a long pause, %d lines", late(), logged)
		}

		api.fails, logged = true, 0
		after(time.Hour, 40, 60)
		if logged != 1 {
			t.Errorf("failures are logged in %d lines", logged)
		}
		api.fails = false
		after(time.Hour, 4, 7)

		// One API server of several that leaps, and goes on to write records.
		leap := func() { c.Stamped(time.Now().Add(24 * time.Hour)) }
		leap()
		after(2*time.Minute, 1, 2)
		if _, held := c.Held(); held || late() != 0 {
			t.Errorf("held %t, late by %v", held, late())
		}
		api.times = 0
		for range 600 {
			leap()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if api.times < 7 || api.times > 11 || late() != 0 {
			t.Errorf("asked %d times in ten minutes of leaps, late by %v", api.times, late())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// answers are an Asker's, in order; a zero time is an error.
type answers []time.Time

func (a *answers) Ask(context.Context) (time.Time, error) {
	var at time.Time
	if len(*a) > 0 {
		at, *a = (*a)[0], (*a)[1:]
	}
	if at.IsZero() {
		return time.Time{}, errors.New("nobody answers")
	}
	return at, nil
}

// TestBegin: of several API servers one that is ahead, or away, does not make the time.
func TestBegin(t *testing.T) {
	ahead := noon.Add(24 * time.Hour)
	for name, test := range map[string]struct {
		answers answers
		want    time.Time
	}{
		"all agree":                {answers{noon, noon, noon}, noon},
		"the first is ahead":       {answers{ahead, noon, noon}, noon},
		"the last alone is right":  {answers{ahead, ahead, noon}, noon},
		"one is away":              {answers{{}, noon, noon}, noon},
		"the last is away":         {answers{noon, noon, {}}, noon},
		"one answers":              {answers{{}, {}, noon}, noon},
		"it is asked again":        {answers{{}, ahead, {}, ahead, {}, noon}, noon},
		"but not for ever":         {answers{ahead, {}, {}, {}, {}, {}, noon}, ahead},
		"nobody answers":           {nil, time.Time{}},
		"all are ahead, or so far": {answers{ahead, ahead, ahead}, ahead},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := earliestOf(t.Context(), &test.answers, 3)
			if !got.Equal(test.want) || (err != nil) != test.want.IsZero() {
				t.Errorf("it is %v, %v; want %v", got, err, test.want)
			}
		})
	}
}
