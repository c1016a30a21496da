package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// world is a cluster in which a decade goes by: the Secret, the bundles that were published, and whoever holds them.
type world struct {
	t      *testing.T
	policy Policy
	now    time.Time
	state  State
	// publishing is how long it takes until the objects of the API hold a new bundle.
	publishing time.Duration
	bundles    []dated[[]*x509.Certificate]
	leaves     []*tls.Certificate
	made       map[string]int
}

type dated[T any] struct {
	at    time.Time
	value T
}

// operate lets a replica look at the Secret.
func (w *world) operate() {
	w.t.Helper()
	next, steps, err := Plan(w.state, Seen{Next: w.publication(), Former: w.state.Trusted}, w.policy, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, step := range steps {
		if step.Made {
			w.made[step.Certificate]++
		}
		if step.Urgent && len(w.leaves) > 0 {
			w.t.Errorf("%s: %s in spite of the schedule", w.now, step.Message)
		}
	}
	before := w.state
	w.state = next
	if len(w.bundles) == 0 || !slices.Equal(before.certificates(), next.certificates()) {
		w.bundles = append(w.bundles, dated[[]*x509.Certificate]{w.now.Add(w.publishing), next.certificates()})
	}
	if before.Leaf == nil || !before.Leaf.Leaf.Equal(next.Leaf.Leaf) {
		w.leaves = append(w.leaves, next.Leaf)
	}
	if again, steps, err := Plan(next, Seen{Former: next.Trusted}, w.policy, w.now); err != nil || len(steps) > 0 {
		w.t.Fatalf("%s: a second look changes something: %v, %v, %v", w.now, steps, again, err)
	}
}

// publication says whether the objects of the API hold the next CA.
func (w *world) publication() Publication {
	if w.state.Next == nil || len(w.bundles) == 0 {
		return PublicationUnknown
	}
	var live []*x509.Certificate
	for _, bundle := range w.bundles {
		if !bundle.at.After(w.now) {
			live = bundle.value
		}
	}
	if contains(live, w.state.Next.Certificate) {
		return Published
	}
	return Unpublished
}

// held are the bundles that some consumer may still hold: those published within the propagation time, and the one before.
func (w *world) held() [][]*x509.Certificate {
	var held [][]*x509.Certificate
	for _, bundle := range w.bundles {
		if bundle.at.After(w.now) {
			continue
		}
		if !bundle.at.After(w.now.Add(-w.policy.Propagation)) {
			held = nil
		}
		held = append(held, bundle.value)
	}
	return held
}

// check has every consumer call every replica, be it cut off since its leaf was made, on clocks that differ by half the
// backdating.
func (w *world) check() {
	w.t.Helper()
	skew := w.policy.Backdate / 2
	w.leaves = slices.DeleteFunc(w.leaves, func(leaf *tls.Certificate) bool { return w.now.Add(skew).After(leaf.Leaf.NotAfter) })
	for _, bundle := range w.held() {
		for _, leaf := range w.leaves {
			for _, clock := range []time.Time{w.now.Add(-skew), w.now.Add(skew)} {
				if err := verify(leaf, bundle, w.policy.Names.dnsNames(), clock); err != nil {
					w.t.Fatalf("%s: a call fails: %v", w.now, err)
				}
			}
		}
	}
}

// TestDecade: at every moment of ten years, every leaf that any replica may still serve is trusted by every bundle that any
// consumer may still hold, though CA and leaf are replaced.
func TestDecade(t *testing.T) {
	for name, publishing := range map[string]time.Duration{"published at once": 0, "published after three days": 3 * day} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, policy: testPolicy, now: start, publishing: 0, made: map[string]int{}}
			w.operate()
			w.publishing = publishing
			for end := start.Add(10 * 365 * day); w.now.Before(end); {
				w.operate()
				w.check()
				if w.state.Next != nil {
					w.now = w.now.Add(20 * time.Minute)
				} else {
					w.now = w.now.Add(day)
				}
				if len(w.state.Trusted) > 2 {
					t.Fatalf("%s: the bundle holds %d CAs", w.now, len(w.state.Trusted))
				}
			}
			// The first and one after each four years; one leaf at the start and each 60 days, and one with each new CA.
			if w.made[certificateCA] != 3 || w.made[certificateLeaf] < 60 || w.made[certificateLeaf] > 66 {
				t.Errorf("made %v", w.made)
			}
		})
	}
}

// TestUnpublished: as long as somebody is not told, the next CA does not sign, and the present one goes on to its end.
func TestUnpublished(t *testing.T) {
	w := &world{t: t, policy: testPolicy, now: start, made: map[string]int{}}
	w.operate()
	w.publishing = 100 * 365 * day
	first := w.state.Active.Certificate
	for w.now.Before(first.NotAfter.Add(-day)) {
		w.operate()
		w.check()
		w.now = w.now.Add(day)
	}
	if !w.state.Active.Certificate.Equal(first) || w.state.Next == nil || !w.state.NextPublished.IsZero() {
		t.Fatal("the next CA signs, though nobody was told")
	}
	staged := w.state.Next.Certificate
	w.leaves = nil // What follows is urgent.
	w.now = first.NotAfter.Add(time.Second)
	w.operate()
	if !w.state.Active.Certificate.Equal(staged) {
		t.Error("with the present CA over, the one that was staged signs: it is known best")
	}
}
