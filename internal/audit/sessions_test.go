package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSessionsHaveBudgetsOfTheirOwn: who opens sessions without end hides no denial and no find, and is counted.
func TestSessionsHaveBudgetsOfTheirOwn(t *testing.T) {
	d := NewDenials(DenialLimits{FirstsPerNamespace: 1, Firsts: Rate{Burst: 1, Hourly: 1}})
	capped := int64(0)
	session := func(n int) Entry {
		return Entry{Type: Exec, Namespace: "ml", Pod: Object{Name: "llm", UID: fmt.Sprint(n)}, License: Object{Name: "acme"}, Actor: "jane", ID: fmt.Sprint("Exec/", n)}
	}
	for n := range 500 {
		if _, fate := d.Observe(noon, session(n)); fate == Capped {
			capped++
		}
	}
	if capped == 0 {
		t.Fatal("nothing was capped")
	}
	for _, kind := range []Type{Denied, KeyRefused, Found} {
		if _, fate := d.Observe(noon, Entry{Type: kind, Namespace: "ml", Reason: "NoGrant", ID: string(kind)}); fate != Written {
			t.Errorf("sessions hide %s: %v", kind, fate)
		}
	}
	for _, e := range d.FlushAll(noon.Add(time.Minute)) {
		if e.Type == Gap && (e.Count != capped || !strings.Contains(e.Message, fmt.Sprintf("%d sessions", capped))) {
			t.Errorf("gap %+v, want %d sessions", e, capped)
		}
	}
}

// TestSessionsAreToldApart by pod and licence; those of one pod within a minute are one entry.
func TestSessionsAreToldApart(t *testing.T) {
	d := NewDenials(DenialLimits{})
	base := Entry{Type: Exec, Namespace: "ml", Owner: Owner{Kind: "ReplicaSet", Name: "llm"}, Pod: Object{Name: "llm-1", UID: "1"}, License: Object{Name: "acme"}, Actor: "jane"}
	observe := func(what string, want Fate, change func(*Entry)) {
		t.Helper()
		e := base
		change(&e)
		if _, fate := d.Observe(noon, e); fate != want {
			t.Errorf("%s: %v, want %v", what, fate, want)
		}
	}
	observe("the first", Written, func(*Entry) {})
	observe("again", Repeated, func(*Entry) {})
	observe("another pod of the owner", Written, func(e *Entry) { e.Pod.UID = "2" })
	observe("another licence", Written, func(e *Entry) { e.License.Name = "other" })
	observe("somebody else", Written, func(e *Entry) { e.Actor = "joe" })
}
