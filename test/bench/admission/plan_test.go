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
		plan   plan
		ok     bool
		isFull bool
	}{
		"full":             {full(), true, true},
		"more":             {plan{Sizes: full().Sizes, Slices: 20, Pods: 60, Rate: 40}, true, true},
		"short":            {short(), true, false},
		"fewer slices":     {plan{Sizes: full().Sizes, Slices: 2, Pods: 60, Rate: 40}, true, false},
		"fewer licences":   {plan{Sizes: []int{10, 100}, Slices: 12, Pods: 60, Rate: 40}, true, false},
		"nothing":          {plan{}, false, false},
		"descending":       {plan{Sizes: []int{100, 50}, Slices: 1, Pods: 1, Rate: 1}, false, false},
		"too few licences": {plan{Sizes: []int{1}, Slices: 1, Pods: 1, Rate: 1}, false, false},
	} {
		if err := tc.plan.validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if got := tc.plan.isFull(); got != tc.isFull {
			t.Errorf("%s: full: %t", name, got)
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

func TestNumbers(t *testing.T) {
	if got, err := numbers("10,100"); err != nil || !slices.Equal(got, []int{10, 100}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := numbers("10,many"); err == nil {
		t.Errorf("read %v", got)
	}
}
