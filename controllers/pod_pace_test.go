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
		if wait := p.wait(name("old", i), noon, old); i < staleBurst && wait != 0 || i >= staleBurst && wait <= 0 {
			t.Fatalf("pod %d waits for %v", i, wait)
		} else {
			last = wait
		}
	}
	if want := 50_000 * time.Second / staleRate; last > want || last < want-time.Minute {
		t.Errorf("the last of 50,000 waits for %v, want about %v", last, want)
	}
	if wait := p.wait(name("new", 0), noon, noon); wait != 0 {
		t.Errorf("a new pod waits for %v", wait)
	}
	again := p.wait(name("old", 100), noon, old)
	if p.wait(name("old", 100), noon.Add(again), old) != 0 || p.wait(name("old", 100), noon.Add(again), old) == 0 {
		t.Error("a turn comes not once")
	}
	p.gone(name("old", 200))
	if n := len(p.turns); n > 50_000-staleBurst {
		t.Errorf("%d turns are remembered", n)
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
