package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func denial(namespace, owner, image string) Entry {
	return Entry{
		Type: Denied, Namespace: namespace, Owner: Owner{Kind: "ReplicaSet", Name: owner}, ServiceAccount: "default",
		Images: []string{image}, Reason: v1alpha1.ReasonNoGrant,
	}.complete(noon, "w")
}

func count(entries []Entry, t Type) (n int, sum int64) {
	for _, e := range entries {
		if e.Type == t {
			n++
			sum += e.Count
		}
	}
	return n, sum
}

func TestDenialsAreCoalesced(t *testing.T) {
	base := denial("ml", "llm", "a:1")
	with := func(change func(*Entry)) Entry {
		e := base
		change(&e)
		return e
	}
	for name, test := range map[string]struct {
		second  Entry
		written bool
	}{
		"the same":                 {base, false},
		"another pod of the owner": {with(func(e *Entry) { e.Pod.Name = "llm-x2" }), false},
		"another message":          {with(func(e *Entry) { e.Message = "other" }), false},
		"another namespace":        {with(func(e *Entry) { e.Namespace = "other" }), true},
		"another owner":            {with(func(e *Entry) { e.Owner.Name = "other" }), true},
		"another kind of owner":    {with(func(e *Entry) { e.Owner.Kind = "Job" }), true},
		"another reason":           {with(func(e *Entry) { e.Reason = v1alpha1.ReasonExpired }), true},
		"another image":            {with(func(e *Entry) { e.Images = []string{"a:2"} }), true},
		"a key refused":            {with(func(e *Entry) { e.Type = KeyRefused }), true},
		"no owner":                 {with(func(e *Entry) { e.Owner = Owner{} }), true},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			if out := d.Observe(noon, base); len(out) != 1 || out[0].Type != Denied {
				t.Fatalf("the first denial is not written at once: %v", out)
			}
			if out := d.Observe(noon.Add(time.Second), test.second); (len(out) == 1) != test.written {
				t.Errorf("written: %v, want %v", out, test.written)
			}
		})
	}
}

func TestRepeatsAreCounted(t *testing.T) {
	d := NewDenials(DenialLimits{})
	first := d.Observe(noon, denial("ml", "llm", "a:1"))[0]
	for range 41 {
		if out := d.Observe(noon.Add(20*time.Second), denial("ml", "llm", "a:1")); len(out) != 0 {
			t.Fatalf("a repeat was written: %v", out)
		}
	}
	if due, ok := d.Due(); !ok || !due.Equal(noon.Truncate(time.Minute).Add(time.Minute)) {
		t.Errorf("due at %v, %v", due, ok)
	}
	if out := d.Flush(noon.Add(50 * time.Second)); len(out) != 0 {
		t.Errorf("flushed within the minute: %v", out)
	}
	out := d.Flush(noon.Add(time.Minute))
	if len(out) != 1 || out[0].Type != DenialsRepeated || out[0].Count != 41 || out[0].Of != first.ID ||
		out[0].Namespace != "ml" || out[0].Images[0] != "a:1" || out[0].Reason != v1alpha1.ReasonNoGrant {
		t.Errorf("flushed %+v, of %s", out, first.ID)
	}
	if _, ok := d.Due(); ok {
		t.Error("something is due after the flush")
	}
	if out := d.Observe(noon.Add(61*time.Second), denial("ml", "llm", "a:1")); len(out) != 1 {
		t.Errorf("the next minute's first denial is not written: %v", out)
	}
}

func TestObserveFlushesTheMinuteBefore(t *testing.T) {
	d := NewDenials(DenialLimits{})
	d.Observe(noon, denial("ml", "llm", "a:1"))
	d.Observe(noon, denial("ml", "llm", "a:1"))
	out := d.Observe(noon.Add(5*time.Minute), denial("ml", "llm", "a:1"))
	if len(out) != 2 || out[0].Type != DenialsRepeated || out[1].Type != Denied {
		t.Errorf("got %+v", out)
	}
}

func TestClockSetBack(t *testing.T) {
	d := NewDenials(DenialLimits{})
	d.Observe(noon, denial("ml", "llm", "a:1"))
	if out := d.Observe(noon.Add(-time.Hour), denial("ml", "llm", "a:1")); len(out) != 0 {
		t.Errorf("a clock that was set back made a repeat a first: %v", out)
	}
	if out := d.Flush(noon.Add(time.Minute)); len(out) != 1 || out[0].Count != 1 {
		t.Errorf("flushed %v", out)
	}
}

// TestRetriesForEver lets a tenant retry one denied Deployment ten times a second for an hour.
func TestRetriesForEver(t *testing.T) {
	d := NewDenials(DenialLimits{})
	var written int
	var told int64
	const perSecond, seconds = 10, 3600
	e := denial("ml", "llm", "a:1")
	take := func(out []Entry) {
		written += len(out)
		_, repeats := count(out, DenialsRepeated)
		n, _ := count(out, Denied)
		told += repeats + int64(n)
	}
	for s := range seconds {
		now := noon.Truncate(time.Minute).Add(time.Duration(s) * time.Second)
		for range perSecond {
			take(d.Observe(now, e))
		}
	}
	take(d.FlushAll(noon.Add(time.Hour)))
	if written > 2*seconds/60 {
		t.Errorf("%d entries in an hour, want at most two a minute", written)
	}
	if told != perSecond*seconds {
		t.Errorf("the log tells of %d denials of %d", told, perSecond*seconds)
	}
}

// TestRandomTags lets a tenant try a new image tag, and a new owner, with every attempt: nothing of it coalesces.
func TestRandomTags(t *testing.T) {
	d := NewDenials(DenialLimits{})
	var firsts int
	var told int64
	const attempts, minutes = 1000, 5
	for m := range minutes {
		now := noon.Truncate(time.Minute).Add(time.Duration(m) * time.Minute)
		var out []Entry
		for n := range attempts {
			out = append(out, d.Observe(now, denial("ml", fmt.Sprintf("o-%d", n), fmt.Sprintf("a:%d", n)))...)
			if size := len(d.spaces["ml"].kinds); size > 30 {
				t.Fatalf("%d denials are remembered", size)
			}
		}
		out = append(out, d.Flush(now.Add(time.Minute))...)
		n, _ := count(out, Denied)
		gaps, capped := count(out, Gap)
		if n > 30 || gaps != 1 || len(out) != n+1 {
			t.Fatalf("minute %d: %d entries, %d firsts, %d gaps", m, len(out), n, gaps)
		}
		firsts += n
		told += int64(n) + capped
	}
	if told != attempts*minutes {
		t.Errorf("the log tells of %d denials of %d (%d one by one)", told, attempts*minutes, firsts)
	}
}

// TestManyNamespaces denies in far more namespaces than are counted apart.
func TestManyNamespaces(t *testing.T) {
	d := NewDenials(DenialLimits{})
	var out []Entry
	const namespaces, each = 1000, 40
	for n := range each {
		for ns := range namespaces {
			out = append(out, d.Observe(noon, denial(fmt.Sprintf("ns-%d", ns), "o", fmt.Sprintf("a:%d", n)))...)
		}
	}
	if len(d.spaces) > 700 || len(d.logged) > 600 {
		t.Errorf("%d namespaces and %d denials are remembered", len(d.spaces), len(d.logged))
	}
	out = append(out, d.FlushAll(noon)...)
	firsts, _ := count(out, Denied)
	gaps, capped := count(out, Gap)
	if firsts != 600 || gaps != 101 || len(out) != 701 {
		t.Errorf("%d entries, %d firsts, %d gaps", len(out), firsts, gaps)
	}
	if int64(firsts)+capped != namespaces*each {
		t.Errorf("the log tells of %d denials of %d", int64(firsts)+capped, namespaces*each)
	}
	if d.spaces == nil || len(d.spaces) != 0 || len(d.logged) != 0 {
		t.Error("something is remembered after the flush")
	}
}

// TestDenialMemory bounds what Denials keeps of the most hostile entries.
func TestDenialMemory(t *testing.T) {
	d := NewDenials(DenialLimits{})
	long := strings.Repeat("x", MaxLeafBytes)
	for ns := range 1000 {
		for n := range 3 {
			e := denial(fmt.Sprintf("%d-%s", ns, long), fmt.Sprintf("%d-%s", n, long), long)
			e.Message, e.Actor = long, long
			d.Observe(noon, e.bounded())
		}
	}
	var kept int
	for namespace, space := range d.spaces {
		kept += len(namespace)
		for _, kind := range space.kinds {
			leaf, err := kind.first.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			kept += len(leaf)
		}
	}
	if limit := 600*MaxLeafBytes + 700*maxNamespace; kept > limit {
		t.Errorf("%d bytes are kept, want at most %d", kept, limit)
	}
}

func TestSmallNamespacesAreSeenBesideALoudOne(t *testing.T) {
	d := NewDenials(DenialLimits{})
	for n := range 1000 {
		d.Observe(noon, denial("loud", "o", fmt.Sprintf("a:%d", n)))
	}
	if out := d.Observe(noon, denial("quiet", "o", "a:1")); len(out) != 1 {
		t.Error("a namespace's first denial is not written because another namespace is loud")
	}
}
