package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	p := plan{Slices: 20}
	order := p.order(5, rand.New(rand.NewPCG(1, 2)))
	if len(order) != 100 {
		t.Fatalf("%d slices, want 100", len(order))
	}
	same := true
	for round := range slices.Chunk(order, 5) {
		same = same && slices.Equal(round, order[:5])
		if sorted := slices.Sorted(slices.Values(round)); !slices.Equal(sorted, []int{0, 1, 2, 3, 4}) {
			t.Errorf("a round has the slices %v, want each variant once", round)
		}
	}
	if same {
		t.Error("every round has the same order")
	}
}

func TestPlans(t *testing.T) {
	for name, tc := range map[string]struct {
		plan plan
		ok   bool
	}{
		"full":             {full(), true},
		"short":            {short(), true},
		"nothing":          {plan{}, false},
		"descending":       {plan{Sizes: []int{100, 50}, Slices: 1, Pods: 1, Rate: 1}, false},
		"too few licences": {plan{Sizes: []int{1}, Slices: 1, Pods: 1, Rate: 1}, false},
	} {
		if err := tc.plan.validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVariants(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range variants() {
		if seen[v.Name] {
			t.Errorf("%s is there twice", v.Name)
		}
		seen[v.Name] = true
		if v.stored && v.want == refused {
			t.Errorf("%s stores pods that are refused", v.Name)
		}
	}
}

func TestSlice(t *testing.T) {
	p := plan{Pods: 60, Rate: 40}
	for slowness, want := range map[int]int{0: 60, 1: 60, 4: 15} {
		pods, interval := p.slice(&variant{slowness: slowness})
		if pods != want || interval*time.Duration(pods) != 1500*time.Millisecond {
			t.Errorf("slowness %d: %d pods, one every %v", slowness, pods, interval)
		}
	}
}
