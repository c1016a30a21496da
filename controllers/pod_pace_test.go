package controllers

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// TestFoundPace: each pod gets a turn of its own, and new pods wait behind new ones alone.
func TestFoundPace(t *testing.T) {
	var p foundPace
	name := func(kind string, i int) types.NamespacedName {
		return types.NamespacedName{Namespace: "ml", Name: fmt.Sprintf("%s-%d", kind, i)}
	}
	old := noon.Add(-time.Hour)
	var last time.Duration
	for i := range 50_000 {
		if wait := p.wait(name("old", i), noon, old); i < paceShareBurst && wait != 0 || i >= paceShareBurst && wait <= 0 {
			t.Fatalf("pod %d waits for %v", i, wait)
		} else {
			last = wait
		}
	}
	if want := 50_000 * time.Second / paceShareRate; last > want || last < want-time.Minute || last > time.Hour {
		t.Errorf("the last of 50,000 waits for %v, want about %v", last, want)
	}
	if wait := p.wait(name("new", 0), noon, noon); wait != 0 {
		t.Errorf("a new pod waits for %v", wait)
	}
	if wait := p.wait(types.NamespacedName{Namespace: "quiet", Name: "old"}, noon, old); wait != 0 {
		t.Errorf("a pod of another namespace waits for %v", wait)
	}
	again := p.wait(name("old", 100), noon, old)
	if p.wait(name("old", 100), noon.Add(again), old) != 0 || p.wait(name("old", 100), noon.Add(again), old) == 0 {
		t.Error("a turn comes not once")
	}
	if n := len(p.turns); n > 50_000-paceShareBurst {
		t.Errorf("%d turns are remembered", n)
	}
}

// TestFoundPaceHandsBack: pods that are gone hold up none that come later.
func TestFoundPaceHandsBack(t *testing.T) {
	var p foundPace
	name := func(i int) types.NamespacedName { return types.NamespacedName{Namespace: "loud", Name: fmt.Sprint(i)} }
	for i := range 100_000 {
		p.wait(name(i), noon, noon)
	}
	for i := range 100_000 {
		p.gone(name(i))
	}
	for i := range 30 {
		if wait := p.wait(name(100_000+i), noon, noon); wait <= 0 || wait > 2*time.Second+time.Millisecond {
			t.Fatalf("pod %d after them waits for %v", i, wait)
		}
	}
	later := noon.Add(time.Minute)
	if wait := p.wait(name(200_000), later, later); wait > time.Second {
		t.Errorf("a pod a minute later waits for %v", wait)
	}
	if n := p.fresh.share("loud", later).free.Len(); n > 100_000-60*paceShareRate {
		t.Errorf("%d turns that are past are remembered", n)
	}
}

// TestFoundPaceTotal: namespaces together have no more than there is, each a share of it, and so many are counted apart.
func TestFoundPaceTotal(t *testing.T) {
	var p foundPace
	waits := map[types.NamespacedName]time.Time{}
	for i := range 600 {
		for _, namespace := range []string{"a", "b", "c"} {
			waits[types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(i)}] = noon
		}
	}
	turns := 0
	for now := noon; now.Before(noon.Add(20 * time.Second)); now = now.Add(100 * time.Millisecond) {
		for pod, at := range waits {
			if at.After(now) {
				continue
			}
			wait := p.wait(pod, now, noon)
			if waits[pod] = now.Add(wait); wait == 0 {
				turns++
				delete(waits, pod)
			}
		}
	}
	if most := freshBurst + 20*freshRate; turns > most || turns < most-2*freshRate {
		t.Errorf("%d turns in 20 seconds, want about %d", turns, most)
	}
	for i := range 3 * maxFindNamespaces {
		p.wait(types.NamespacedName{Namespace: fmt.Sprintf("ns-%d", i), Name: "llm"}, noon, noon)
	}
	if n := len(p.fresh.namespaces); n > maxFindNamespaces+1 {
		t.Errorf("%d namespaces are remembered", n)
	}
	p.wait(types.NamespacedName{Namespace: "quiet", Name: "llm"}, noon.Add(time.Hour), noon.Add(time.Hour))
	if n := len(p.fresh.namespaces); n > 2 {
		t.Errorf("%d namespaces are remembered an hour later", n)
	}
}

// TestEventBudget: a namespace has a burst and one a minute, and a loud one costs no other.
func TestEventBudget(t *testing.T) {
	var b eventBudget
	count := func(now time.Time, namespace string) (n int) {
		for range 1000 {
			if b.take(now, namespace) {
				n++
			}
		}
		return n
	}
	if n := count(noon, "loud"); n != findEventsBurst {
		t.Errorf("%d Events at once", n)
	}
	if n := count(noon.Add(10*time.Minute), "loud"); n != 10 {
		t.Errorf("%d Events after ten minutes", n)
	}
	for i := range 3 * maxFindNamespaces {
		b.take(noon.Add(10*time.Minute), fmt.Sprintf("ns-%d", i))
	}
	if len(b.namespaces) > maxFindNamespaces+1 {
		t.Errorf("%d namespaces are remembered", len(b.namespaces))
	}
	if !b.take(noon.Add(2*time.Hour), "quiet") {
		t.Error("a quiet namespace has none later")
	}
}
