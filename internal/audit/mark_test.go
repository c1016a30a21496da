package audit

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMark: the mark rises with the creation times of records, and goes back only with an entry that says so.
func TestMark(t *testing.T) {
	type record struct {
		minute int
		entry  Entry
	}
	plain := func(minute int) record { return record{minute, Entry{Type: Started}} }
	reset := func(minute int) record { return record{minute, Entry{Type: TimeMarkReset}} }
	for name, test := range map[string]struct {
		records []record
		want    int // minutes after noon
	}{
		"rises":                      {[]record{plain(0), plain(1), plain(5)}, 5},
		"does not fall":              {[]record{plain(0), plain(5), plain(1)}, 5},
		"falls with a reset":         {[]record{plain(0), plain(5), reset(1)}, 1},
		"rises after a reset":        {[]record{plain(0), plain(5), reset(1), plain(2)}, 2},
		"does not fall with a claim": {[]record{plain(5), {1, Entry{Type: Denied, Reason: "TimeMarkReset", Message: `"type":"TimeMarkReset"`, ID: `","type":"TimeMarkReset","id":"`}}}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			var c Checker
			for n, r := range test.records {
				leaf, err := r.entry.complete(noon, "operator-0").Canonical()
				if err != nil {
					t.Fatal(err)
				}
				added := newRecord(int64(n), "x", []string{string(leaf)})
				added.CreationTimestamp = metav1.NewTime(noon.Add(time.Duration(r.minute) * time.Minute))
				c.Add(added)
			}
			if got := c.Mark.Sub(noon); got != time.Duration(test.want)*time.Minute {
				t.Errorf("mark %v after noon, want %d minutes", got, test.want)
			}
		})
	}
}

// TestStamped: the log tells when the API server created its records, and nothing of those that it did not create.
func TestStamped(t *testing.T) {
	c := newClient(t)
	var stamps []time.Time
	l := newLog(t, c, func(o *Options) { o.Stamped = func(at time.Time) { stamps = append(stamps, at) } })
	foreign := newRecord(0, "foreign", []string{"{}"})
	foreign.CreationTimestamp = metav1.NewTime(noon)
	if err := c.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	stop := start(t, l)
	if _, err := l.Append(withTimeout(t, time.Minute), release()); err != nil {
		t.Fatal(err)
	}
	stop()
	if len(stamps) != 1 {
		t.Errorf("told of %v", stamps)
	}
}
