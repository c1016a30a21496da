package audit

import (
	"fmt"
	"slices"
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
		"another user":             {with(func(e *Entry) { e.Actor = "mallory" }), true},
		"a key refused":            {with(func(e *Entry) { e.Type = KeyRefused }), true},
		"no owner":                 {with(func(e *Entry) { e.Owner = Owner{} }), true},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			if out, _ := d.Observe(noon, base); len(out) != 1 || out[0].Type != Denied {
				t.Fatalf("the first denial is not written at once: %v", out)
			}
			if out, _ := d.Observe(noon.Add(time.Second), test.second); (len(out) == 1) != test.written {
				t.Errorf("written: %v, want %v", out, test.written)
			}
		})
	}
}

func TestRepeatsAreCounted(t *testing.T) {
	d := NewDenials(DenialLimits{})
	firsts, _ := d.Observe(noon, denial("ml", "llm", "a:1"))
	first := firsts[0]
	for range 41 {
		if out, _ := d.Observe(noon.Add(20*time.Second), denial("ml", "llm", "a:1")); len(out) != 0 {
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
		out[0].Namespace != "ml" || out[0].Reason != v1alpha1.ReasonNoGrant || out[0].Images != nil || out[0].Message != "" {
		t.Errorf("flushed %+v, of %s", out, first.ID)
	}
	if _, ok := d.Due(); ok {
		t.Error("something is due after the flush")
	}
	if out, _ := d.Observe(noon.Add(61*time.Second), denial("ml", "llm", "a:1")); len(out) != 1 {
		t.Errorf("the next minute's first denial is not written: %v", out)
	}
}

func TestObserveFlushesTheMinuteBefore(t *testing.T) {
	d := NewDenials(DenialLimits{})
	d.Observe(noon, denial("ml", "llm", "a:1"))
	d.Observe(noon, denial("ml", "llm", "a:1"))
	out, _ := d.Observe(noon.Add(5*time.Minute), denial("ml", "llm", "a:1"))
	if len(out) != 2 || out[0].Type != DenialsRepeated || out[1].Type != Denied {
		t.Errorf("got %+v", out)
	}
}

func TestClockSetBack(t *testing.T) {
	d := NewDenials(DenialLimits{})
	d.Observe(noon, denial("ml", "llm", "a:1"))
	if out, _ := d.Observe(noon.Add(-time.Hour), denial("ml", "llm", "a:1")); len(out) != 0 {
		t.Errorf("a clock that was set back made a repeat a first: %v", out)
	}
	if out := d.Flush(noon.Add(time.Minute)); len(out) != 1 || out[0].Count != 1 {
		t.Errorf("flushed %v", out)
	}
}

// tally counts what a Denials says, and what of it was told.
type tally struct {
	entries, canonical, etcd, told int64
	written                        map[Type]int64
	byNamespace                    map[string]int64 // bytes in etcd
}

func newTally() *tally { return &tally{written: map[Type]int64{}, byNamespace: map[string]int64{}} }

func (a *tally) take(t *testing.T, out []Entry) {
	t.Helper()
	for _, e := range out {
		e = e.complete(noon, fullWriter)
		leaf, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		bytes := int64(recordBytes + storedBytes(Summary(e, 0)) + storedBytes(string(leaf)))
		if least := leastBytes(e); least > bytes {
			t.Errorf("%d bytes of an entry, want less than %d", least, bytes)
		}
		a.entries++
		a.canonical += int64(len(leaf))
		a.etcd += bytes
		a.byNamespace[e.Namespace] += bytes
		a.written[e.Type]++
		a.told += max(e.Count, 1)
	}
}

func (a *tally) observe(t *testing.T, d *Denials, now time.Time, e Entry) Fate {
	t.Helper()
	out, fate := d.Observe(now, e)
	a.take(t, out)
	return fate
}

// TestRetriesForEver lets a tenant retry one denied Deployment ten times a second for an hour.
func TestRetriesForEver(t *testing.T) {
	d, told := NewDenials(DenialLimits{}), newTally()
	const perSecond, seconds = 10, 3600
	e := denial("ml", "llm", "a:1")
	for s := range seconds {
		for range perSecond {
			told.observe(t, d, noon.Truncate(time.Minute).Add(time.Duration(s)*time.Second), e)
		}
	}
	told.take(t, d.FlushAll(noon.Add(time.Hour)))
	if told.entries > 2*seconds/60 {
		t.Errorf("%d entries in an hour, want at most two a minute", told.entries)
	}
	if told.told != perSecond*seconds {
		t.Errorf("the log tells of %d denials of %d", told.told, perSecond*seconds)
	}
}

// TestRandomTags lets a tenant try a new image tag, and a new owner, with every attempt: nothing of it coalesces.
func TestRandomTags(t *testing.T) {
	d, told := NewDenials(DenialLimits{}), newTally()
	const attempts, minutes = 1000, 180
	for m := range minutes {
		now := noon.Truncate(time.Minute).Add(time.Duration(m) * time.Minute)
		before := told.written[Denied]
		for n := range attempts {
			told.observe(t, d, now, denial("ml", fmt.Sprintf("o-%d", n), fmt.Sprintf("a:%d", n)))
		}
		n := told.written[Denied] - before
		if m == 0 && (n < 25 || n > 60) || m > 60 && n > 2 {
			t.Errorf("minute %d: %d denials are written", m, n)
		}
	}
	told.take(t, d.FlushAll(noon.Add(minutes*time.Minute)))
	if gaps := told.written[Gap]; gaps > 4 {
		t.Errorf("%d Gap entries in three hours", gaps)
	}
	if told.told != attempts*minutes {
		t.Errorf("the log tells of %d denials of %d", told.told, attempts*minutes)
	}
}

// TestGapsAreTold: a namespace that is over its budget is told of within a minute, and then once an hour.
func TestGapsAreTold(t *testing.T) {
	d := NewDenials(DenialLimits{})
	start := noon.Truncate(time.Hour)
	flood := func(at time.Duration) {
		for n := range 100 {
			e := denial("ml", fmt.Sprintf("o-%d-%d", n, at), "a:1")
			d.Observe(start.Add(at), e)
			e.Type = KeyRefused
			d.Observe(start.Add(at), e)
		}
	}
	var at []time.Duration
	for minute := range 150 {
		out := d.Flush(start.Add(time.Duration(minute) * time.Minute))
		if n, _ := count(out, Gap); n == 1 {
			at = append(at, time.Duration(minute)*time.Minute)
			gap := out[len(out)-1]
			if gap.Namespace != "ml" || gap.Reason != v1alpha1.ReasonDenialsCapped ||
				!strings.Contains(gap.Message, " denials and ") || !strings.Contains(gap.Message, "refusals of keys in namespace ml") {
				t.Errorf("gap %+v", gap)
			}
		}
		flood(time.Duration(minute) * time.Minute)
	}
	want := []time.Duration{time.Minute, 61 * time.Minute, 121 * time.Minute}
	if !slices.Equal(at, want) {
		t.Errorf("Gap entries after %v, want %v", at, want)
	}
}

// TestManyNamespaces denies in more namespaces than are counted apart.
func TestManyNamespaces(t *testing.T) {
	d, told := NewDenials(DenialLimits{}), newTally()
	const namespaces, each = 2000, 40
	for n := range each {
		for ns := range namespaces {
			told.observe(t, d, noon, denial(fmt.Sprintf("ns-%d", ns), "o", fmt.Sprintf("a:%d", n)))
		}
	}
	if len(d.spaces) != DefaultNamespaces || len(d.logged) > 2000 {
		t.Errorf("%d namespaces and %d denials are remembered", len(d.spaces), len(d.logged))
	}
	told.take(t, d.FlushAll(noon))
	if gaps := told.written[Gap]; gaps != DefaultGapsPerHour+1 {
		t.Errorf("%d Gap entries", gaps)
	}
	if told.told != namespaces*each {
		t.Errorf("the log tells of %d denials of %d", told.told, namespaces*each)
	}
	if d.pending() {
		t.Error("something is left to tell after the flush")
	}
	d.Flush(noon.Add(25 * time.Hour))
	if len(d.spaces) != 0 {
		t.Errorf("%d namespaces are remembered a day later", len(d.spaces))
	}
}

// TestDenialMemory bounds what Denials keeps of the most hostile entries.
func TestDenialMemory(t *testing.T) {
	for name, text := range map[string]string{"short": "", "long": strings.Repeat("x", MaxLeafBytes)} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			for ns := range 2000 {
				for n := range 5 {
					for _, class := range []Type{Denied, KeyRefused} {
						e := Entry{
							Type: class, Namespace: fmt.Sprintf("%d%s", ns, text), Owner: Owner{Kind: "K", Name: fmt.Sprintf("%d-%s", n, text)},
							Images: []string{text}, Message: text, Actor: text, Reason: v1alpha1.Reason(fmt.Sprintf("%d%s", n, text)),
						}
						d.Observe(noon, e.complete(noon, "w"))
					}
				}
			}
			if len(d.spaces) > DefaultNamespaces || len(d.logged) > 2000 || len(d.kinds) != len(d.logged) {
				t.Errorf("%d namespaces and %d denials are remembered", len(d.spaces), len(d.logged))
			}
			var kept int
			for name, space := range d.spaces {
				kept += len(name)
				for _, s := range space.shares {
					if s.reserved > DefaultFirstsPerNamespace {
						t.Fatalf("%d firsts of a namespace", s.reserved)
					}
					kept += len(s.seen) * maxReason
				}
			}
			for _, kind := range d.logged {
				kept += len(kind.namespace) + len(kind.id) + len(kind.reason) + len(denialKey{})
			}
			if kept > 1<<20 {
				t.Errorf("%d bytes are kept", kept)
			}
		})
	}
}

// TestLoudNamespacesHideNothingElse: junk in one place hides neither key refusals there nor denials elsewhere.
func TestLoudNamespacesHideNothingElse(t *testing.T) {
	refusal := func(namespace string) Entry {
		e := denial(namespace, "victim", "a:1")
		e.Type = KeyRefused
		return e
	}
	other := func(namespace string) Entry {
		e := denial(namespace, "victim", "a:1")
		e.Reason = v1alpha1.ReasonExpired
		return e
	}
	for name, test := range map[string]struct {
		loud int
		each int
		then Entry
		want Fate
	}{
		"a denial elsewhere":                     {1, 1000, denial("quiet", "o", "a:1"), Written},
		"a denial beyond the total":              {20, 1000, denial("quiet", "o", "a:1"), Written},
		"a denial of many loud namespaces":       {100, 1000, denial("quiet", "o", "a:1"), Written},
		"a refusal there":                        {1, 1000, refusal("ns-0"), Written},
		"a refusal there, beyond the total":      {20, 1000, refusal("ns-0"), Written},
		"another reason there":                   {1, 1000, other("ns-0"), Written},
		"another reason there, beyond the total": {20, 1000, other("ns-0"), Written},
		"the same reason there":                  {1, 1000, denial("ns-0", "victim", "a:1"), Capped},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			for n := range test.each {
				for ns := range test.loud {
					d.Observe(noon, denial(fmt.Sprintf("ns-%d", ns), fmt.Sprintf("o-%d", n), "a:1"))
				}
			}
			now := noon.Add(10 * time.Second)
			out, fate := d.Observe(now, test.then)
			if fate != test.want || (fate == Written) != (len(out) == 1) {
				t.Fatalf("fate %v, want %v", fate, test.want)
			}
			if test.want == Written {
				if _, fate := d.Observe(now, test.then); fate != Repeated {
					t.Errorf("the second is %v", fate)
				}
			}
		})
	}
}

// TestFirstsOutlastHostileNamespaces: 25 namespaces use up all that they can, in the longest texts there are, hour after hour,
// and the first of a quiet namespace is still written.
func TestFirstsOutlastHostileNamespaces(t *testing.T) {
	for name, text := range map[string]string{"long": strings.Repeat("x", MaxLeafBytes), "markup": strings.Repeat("<", MaxLeafBytes), "quotes": strings.Repeat(`"`, MaxLeafBytes)} {
		t.Run(name, func(t *testing.T) {
			d := NewDenials(DenialLimits{})
			start := noon.Truncate(time.Hour)
			longest := hostileDenial(text)
			for hour := range 12 {
				now := start.Add(time.Duration(hour) * time.Hour)
				for ns := range 25 {
					for n := range 60 {
						e := longest
						if n >= 40 { // what has no room for these has some for short ones
							e = denial("", "xxx", "a:1")
						}
						e.Namespace, e.Reason = fmt.Sprintf("ns-%d", ns), v1alpha1.Reason(fmt.Sprintf("Reason%d", n%6))
						e.Owner.Name = fmt.Sprintf("%03d%s", n, e.Owner.Name[3:])
						for _, e.Type = range []Type{Denied, KeyRefused, Denied, KeyRefused} {
							d.Observe(now, e)
						}
					}
				}
				for _, class := range []Type{Denied, KeyRefused} {
					e := denial("quiet", "server", "a:1")
					e.Type = class
					if _, fate := d.Observe(now, e); fate != Written {
						t.Errorf("hour %d: the first %s of a quiet namespace is not written", hour, class)
					}
				}
			}
		})
	}
}

// hostileDenial has the longest texts.
func hostileDenial(text string) Entry {
	return Entry{
		Type: Denied, Pod: Object{Name: text, UID: text}, Owner: Owner{Kind: text, Name: text}, Message: text, Images: []string{text}, Node: text,
		License: Object{Name: text, UID: text}, Grant: Object{Name: text, UID: text}, ServiceAccount: text, Actor: text,
	}.complete(noon, fullWriter)
}

// TestFirstsAreBounded: a namespace that invents reasons has no more than its share of the firsts, and again an hour later.
func TestFirstsAreBounded(t *testing.T) {
	d := NewDenials(DenialLimits{})
	start := noon.Truncate(time.Hour)
	for n := range 1000 {
		d.Observe(start, denial("ml", fmt.Sprintf("o-%d", n), "a:1"))
	}
	for hour := range 3 {
		now := start.Add(time.Duration(hour)*time.Hour + time.Second)
		if hour > 0 { // again nothing is left for the ordinary
			for n := range 1000 {
				d.Observe(now, denial("ml", fmt.Sprintf("o-%d", n), "a:1"))
			}
		}
		var written int
		for n := range 100 {
			e := denial("ml", "o", "a:1")
			e.Reason = v1alpha1.Reason(fmt.Sprintf("Reason%d", n))
			if _, fate := d.Observe(now, e); fate == Written {
				written++
			}
		}
		if written != DefaultFirstsPerNamespace {
			t.Errorf("hour %d: %d reasons were written beyond the budget, want %d", hour, written, DefaultFirstsPerNamespace)
		}
	}
}
