package limit

import (
	"testing"
	"time"
)

var (
	start = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	pod   = Rate{Burst: 5, Every: time.Minute}
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestBucket(t *testing.T) {
	tests := map[string]struct {
		rate Rate
		at   []float64 // seconds after the start, of each Take
		want []float64 // seconds to wait; 0 where it is given
	}{
		"one at a time":                {pod, []float64{0}, []float64{0}},
		"the burst, and no more":       {pod, []float64{0, 0, 0, 0, 0, 0, 0}, []float64{0, 0, 0, 0, 0, 60, 60}},
		"retries with backoff":         {pod, []float64{0, 0.5, 1.5, 3.5, 7.5, 15.5, 63.5}, []float64{0, 0, 0, 0, 0, 44.5, 0}},
		"one a minute after that":      {pod, []float64{0, 0, 0, 0, 0, 60, 60, 119, 120}, []float64{0, 0, 0, 0, 0, 0, 60, 1, 0}},
		"one a minute for ever":        {pod, []float64{0, 60, 120, 180, 240, 300, 360, 420}, []float64{0, 0, 0, 0, 0, 0, 0, 0}},
		"refusals cost nothing":        {pod, []float64{0, 0, 0, 0, 0, 10, 20, 30, 40, 50, 60}, []float64{0, 0, 0, 0, 0, 50, 40, 30, 20, 10, 0}},
		"the whole burst after a lull": {pod, []float64{0, 0, 0, 0, 0, 300, 300, 300, 300, 300, 300}, []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60}},
		"no more than the burst":       {pod, []float64{0, 9000, 9000, 9000, 9000, 9000, 9000}, []float64{0, 0, 0, 0, 0, 0, 60}},
		"a clock that is set back":     {pod, []float64{0, 0, 0, 0, 0, -3600, -3540}, []float64{0, 0, 0, 0, 0, 60, 0}},
		"ten a second":                 {Rate{1, 100 * time.Millisecond}, []float64{0, 0.05, 0.1}, []float64{0, 0.05, 0}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var b Bucket
			for i, at := range tc.at {
				if got := b.Take(start.Add(seconds(at)), tc.rate); got != seconds(tc.want[i]) {
					t.Errorf("take %d, after %v s: wait %v, want %v s", i, at, got, tc.want[i])
				}
			}
		})
	}
}

func TestGiveBack(t *testing.T) {
	r := NewRates[string](pod, 10)
	for range 20 {
		if wait := r.Take(start, "a"); wait != 0 {
			t.Fatalf("wait %v after all was given back", wait)
		}
		r.GiveBack(start, "a")
	}
	r.GiveBack(start, "a")
	for range pod.Burst {
		r.Take(start, "a")
	}
	if r.Take(start, "a") == 0 {
		t.Error("giving back what was not taken adds to the burst")
	}
}

// Whoever asks without end for an hour gets what the rate says, and others are not touched.
func TestFlood(t *testing.T) {
	r := NewRates[string](pod, 10)
	given := 0
	for ms := range 3600 * 100 {
		if r.Take(start.Add(time.Duration(ms)*10*time.Millisecond), "flood") == 0 {
			given++
		}
	}
	if want := 5 + 59; given != want {
		t.Errorf("%d given, want %d", given, want)
	}
	if r.Take(start.Add(time.Hour), "other") != 0 {
		t.Error("another key is refused")
	}
}

func TestRatesAreBounded(t *testing.T) {
	r := NewRates[int](pod, 100)
	for i := range 10000 {
		r.Take(start, i)
	}
	if n := r.buckets.Len(); n != 100 {
		t.Errorf("%d keys are held, want 100", n)
	}
	for range pod.Burst {
		r.Take(start, 9999)
	}
	r.Take(start.Add(4*time.Minute), 0)
	if r.buckets.Len() != 100 {
		t.Error("keys are forgotten before they have recovered")
	}
	r.Take(start.Add(5*time.Minute), 0)
	if n := r.buckets.Len(); n != 1 {
		t.Errorf("%d keys are held after all have recovered but one", n)
	}
}

func TestRecent(t *testing.T) {
	r := NewRecent[string, int](2, time.Hour)
	*r.Use(start, "a") = 1
	*r.Use(start, "b") = 2
	*r.Use(start.Add(time.Minute), "a") += 10
	*r.Use(start.Add(time.Minute), "c") = 3
	if _, ok := r.Look(start, "b"); ok {
		t.Error("the key that was not used for longest is held")
	}
	if v, _ := r.Look(start.Add(time.Minute), "a"); v != 11 {
		t.Errorf("a is %d", v)
	}
	r.Forget("a")
	r.Forget("a")
	if _, ok := r.Look(start.Add(time.Minute), "a"); ok {
		t.Error("a is held after it was forgotten")
	}
	// To look is no use.
	if v, _ := r.Look(start.Add(time.Hour), "c"); v != 3 {
		t.Errorf("c is %d", v)
	}
	if _, ok := r.Look(start.Add(time.Hour+time.Minute), "c"); ok || r.Len() != 0 {
		t.Error("c is held after its time")
	}
}
