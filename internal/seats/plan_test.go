package seats

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// waiter builds a waiting pod; the number gives UID, name and age.
type waiter struct{ Waiting }

func waits(n int, grant Grant, pairs ...string) *waiter {
	return &waiter{Waiting{
		Pod: uid(n), Name: fmt.Sprintf("ml/pod-%d", n), Created: at(n),
		Wants: []Want{{License: "acme", Grant: grant, Amount: list(pairs...)}},
	}}
}

func (w *waiter) priority(p int32) *waiter { w.Priority = p; return w }
func (w *waiter) group(key string) *waiter { w.Group = key; return w }
func (w *waiter) also(license string, grant Grant, pairs ...string) *waiter {
	w.Wants = append(w.Wants, Want{License: license, Grant: grant, Amount: list(pairs...)})
	return w
}

func (w *waiter) within(pairs ...string) *waiter { w.Wants[0].GrantLimits = list(pairs...); return w }

// planned says of each pod, in the plan's order, its number and "takes", or reason and position.
func planned(in PlanInput) string {
	var out []string
	for _, a := range Plan(in) {
		what := "takes"
		if !a.Take {
			what = fmt.Sprintf("%s@%d", a.Reason, a.Position)
		}
		out = append(out, fmt.Sprintf("%s:%s", strings.TrimPrefix(in.Waiting[a.Index].Name, "ml/pod-"), what))
	}
	return strings.Join(out, " ")
}

func ledgers(list ...*Ledger) map[string]*Ledger {
	out := map[string]*Ledger{}
	for _, l := range list {
		out[l.License()] = l
	}
	return out
}

func named(name string, l *Ledger) *Ledger { l.license = name; return l }

func TestPlan(t *testing.T) {
	a, b := grantNamed("a"), grantNamed("b")
	full := func(pairs ...string) *Ledger {
		l := Empty(license(1, pairs...))
		for i := range 4 {
			must(t, l, take(100+i, "nvidia.com/gpu", "1"))
		}
		return l
	}
	group := func(key string, size int, held ...types.UID) GroupState {
		return GroupState{Key: key, Size: size, Held: held}
	}
	tests := map[string]struct {
		ledgers map[string]*Ledger
		groups  []GroupState
		waiting []*waiter
		want    string
	}{
		"the oldest first": {
			ledgers: ledgers(Empty(license(1, "pods", "2"))), waiting: []*waiter{waits(3, a), waits(1, a), waits(2, a), waits(4, a)},
			want: "1:takes 2:takes 3:WaitingForSeat@1 4:WaitingForSeat@2",
		},
		"priority before age": {
			ledgers: ledgers(Empty(license(1, "pods", "1"))), waiting: []*waiter{waits(1, a), waits(2, a).priority(5)},
			want: "2:takes 1:WaitingForSeat@1",
		},
		"grants take turns": {
			ledgers: ledgers(Empty(license(1, "pods", "4"))),
			waiting: []*waiter{waits(1, a), waits(2, a), waits(3, a), waits(4, a), waits(5, b), waits(6, b), waits(7, b)},
			want:    "1:takes 5:takes 2:takes 6:takes 3:WaitingForSeat@1 7:WaitingForSeat@2 4:WaitingForSeat@3",
		},
		"who holds less is first": {
			ledgers: ledgers(func() *Ledger {
				l := Empty(license(1, "pods", "3"))
				must(t, l, Take{Pod: uid(100), Grant: a, Generation: 1}, Take{Pod: uid(101), Grant: a, Generation: 1})
				return l
			}()),
			waiting: []*waiter{waits(1, a), waits(2, b)}, want: "2:takes 1:WaitingForSeat@1",
		},
		"the only seat goes from grant to grant": {
			ledgers: ledgers(Empty(license(1, "pods", "1"))),
			waiting: []*waiter{waits(2, a), waits(3, a), waits(1, b)}, want: "1:takes 2:WaitingForSeat@1 3:WaitingForSeat@2",
		},
		"without limits all take": {
			ledgers: ledgers(Empty(license(1))), waiting: []*waiter{waits(1, a), waits(2, b)}, want: "1:takes 2:takes",
		},
		"a pod that wants much is not overtaken for what it wants": {
			ledgers: ledgers(full("nvidia.com/gpu", "6")),
			waiting: []*waiter{waits(1, a, "nvidia.com/gpu", "4"), waits(2, b, "nvidia.com/gpu", "1"), waits(3, b, "cpu", "1")},
			want:    "3:takes 1:WaitingForSeat@1 2:WaitingForSeat@2",
		},
		"nor is one that waits behind another, for another resource": {
			ledgers: ledgers(func() *Ledger {
				l := full("nvidia.com/gpu", "6", "cpu", "1")
				must(t, l, take(104, "cpu", "1"))
				return l
			}()),
			waiting: []*waiter{
				waits(1, a, "cpu", "1"), waits(2, b, "nvidia.com/gpu", "4"), waits(3, b, "nvidia.com/gpu", "1"),
				waits(4, b, "memory", "1"),
			},
			want: "4:takes 1:WaitingForSeat@1 2:WaitingForSeat@2 3:WaitingForSeat@3",
		},
		"a pod too large holds up nobody": {
			ledgers: ledgers(full("nvidia.com/gpu", "6")),
			waiting: []*waiter{waits(1, a, "nvidia.com/gpu", "7"), waits(2, a, "nvidia.com/gpu", "1")},
			want:    "2:takes 1:TooLarge@0",
		},
		"a full grant holds up no other": {
			ledgers: ledgers(Empty(license(1, "pods", "4"))),
			waiting: []*waiter{waits(1, a).within("pods", "1"), waits(2, a), waits(3, b), waits(4, b)},
			want:    "1:takes 3:takes 4:takes 2:WaitingForSeat@1",
		},
		"a grant's own limit is too small": {
			ledgers: ledgers(Empty(license(1, "nvidia.com/gpu", "8"))),
			waiting: []*waiter{waits(1, a, "nvidia.com/gpu", "3").within("nvidia.com/gpu", "2")}, want: "1:TooLarge@0",
		},
		"several licences: all or none": {
			ledgers: ledgers(Empty(license(1, "pods", "1")), named("zeta", full("pods", "4"))),
			waiting: []*waiter{waits(1, a).also("zeta", a)}, want: "1:WaitingForSeat@1",
		},
		"what the first one waits with is kept for it": {
			ledgers: ledgers(Empty(license(1, "pods", "1")), named("zeta", full("pods", "4"))),
			waiting: []*waiter{waits(1, a).also("zeta", a), waits(2, a)}, want: "1:WaitingForSeat@1 2:WaitingForSeat@1",
		},
		"wanted crosswise": {
			ledgers: ledgers(Empty(license(1, "pods", "1")), named("zeta", Empty(license(1, "pods", "1")))),
			waiting: []*waiter{waits(1, a).also("zeta", a), waits(2, b).also("zeta", b)}, want: "1:takes 2:WaitingForSeat@1",
		},
		"a group takes all its seats": {
			ledgers: ledgers(Empty(license(1, "pods", "3"))), groups: []GroupState{group("g", 3)},
			waiting: []*waiter{waits(1, a).group("g"), waits(2, a).group("g"), waits(3, a).group("g")},
			want:    "1:takes 2:takes 3:takes",
		},
		"or none": {
			ledgers: ledgers(Empty(license(1, "pods", "2"))), groups: []GroupState{group("g", 0)},
			waiting: []*waiter{waits(1, b).group("g"), waits(2, b).group("g"), waits(3, a), waits(4, b).group("g")},
			want:    "3:takes 1:TooLarge@0 2:TooLarge@0 4:TooLarge@0",
		},
		"or none for now": {
			ledgers: ledgers(full("pods", "5")), groups: []GroupState{group("g", 0)},
			waiting: []*waiter{waits(1, b).group("g"), waits(2, b).group("g")},
			want:    "1:WaitingForGroup@1 2:WaitingForGroup@2",
		},
		"and while it waits for its grant, others go on": {
			ledgers: ledgers(func() *Ledger {
				l := Empty(license(1, "pods", "3"))
				must(t, l, Take{Pod: uid(100), Grant: a, Generation: 1}, Take{Pod: uid(101), Grant: b, Generation: 1})
				return l
			}()), groups: []GroupState{group("g", 0)},
			waiting: []*waiter{
				waits(1, a).group("g").within("pods", "2"), waits(2, a).group("g").within("pods", "2"), waits(3, b), waits(4, b),
			},
			want: "3:takes 1:WaitingForGroup@1 2:WaitingForGroup@2 4:WaitingForSeat@3",
		},
		"a group that is not complete begins where there is room for all of it": {
			ledgers: ledgers(Empty(license(1, "pods", "4"))), groups: []GroupState{group("g", 3)},
			waiting: []*waiter{waits(1, a).group("g"), waits(2, b), waits(3, b)},
			want:    "1:takes 2:takes 3:WaitingForSeat@1",
		},
		"and not where there is none": {
			ledgers: ledgers(full("pods", "5")), groups: []GroupState{group("g", 2)},
			waiting: []*waiter{waits(1, a).group("g")}, want: "1:WaitingForGroup@1",
		},
		"a group that has begun keeps room": {
			ledgers: ledgers(full("pods", "6")), groups: []GroupState{group("g", 3, uid(100))},
			waiting: []*waiter{waits(1, b), waits(2, b)}, want: "1:WaitingForSeat@1 2:WaitingForSeat@2",
		},
		"for its own pods": {
			ledgers: ledgers(full("pods", "6")), groups: []GroupState{group("g", 3, uid(100))},
			waiting: []*waiter{waits(1, b), waits(2, chat).group("g")}, want: "2:takes 1:WaitingForSeat@1",
		},
		"not for those that have ended": {
			ledgers: ledgers(full("pods", "6")), groups: []GroupState{{Key: "g", Size: 3, Held: []types.UID{uid(100)}, Finished: 2}},
			waiting: []*waiter{waits(1, b), waits(2, b)}, want: "1:takes 2:takes",
		},
		"nodes: with none left, pods go to those in use": {
			ledgers: ledgers(func() *Ledger {
				l := Empty(license(1, "nodes", "1"))
				must(t, l, take(100), Bind{uid(100), "n1"})
				return l
			}()), waiting: []*waiter{waits(1, a)}, want: "1:takes",
		},
		"nodes: while they are only reserved, pods wait": {
			ledgers: ledgers(Empty(license(1, "nodes", "1"))), waiting: []*waiter{waits(1, a), waits(2, a)},
			want: "1:takes 2:WaitingForSeat@1",
		},
		"a ledger that is not known has no room": {waiting: []*waiter{waits(1, a)}, want: "1:WaitingForSeat@1"},
		"who wants no licence goes on":           {waiting: []*waiter{{Waiting{Pod: "p", Name: "ml/pod-1"}}}, want: "1:takes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := PlanInput{Now: at(60), Ledgers: test.ledgers, Groups: test.groups}
			for _, w := range test.waiting {
				in.Waiting = append(in.Waiting, w.Waiting)
			}
			if got := planned(in); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestPlanForgetsGroupsThatNeverComplete(t *testing.T) {
	l := Empty(license(1, "pods", "3"))
	must(t, l, take(100))
	in := PlanInput{
		Ledgers: ledgers(l), Groups: []GroupState{{Key: "g", Size: 3, Held: []types.UID{uid(100)}}},
		Waiting: []Waiting{waits(1, chat).Waiting},
	}
	for now, want := range map[time.Time]string{
		at(0).Add(GroupReserve):                  "1:WaitingForSeat@1",
		at(0).Add(GroupReserve).Add(time.Second): "1:takes",
	} {
		in.Now = now
		if got := planned(in); got != want {
			t.Errorf("at %s: got %s, want %s", now, got, want)
		}
	}
}

func TestPlanSaysWhoHoldsTheSeats(t *testing.T) {
	l := Empty(license(1, "pods", "4"))
	for i := range 4 {
		c := take(100 + i)
		c.Since = at(10 - i)
		must(t, l, c)
	}
	in := PlanInput{Ledgers: ledgers(l), PodName: func(pod types.UID) string {
		if pod == uid(103) {
			return "ml/oldest"
		}
		return ""
	}}
	for i := range 22 {
		in.Waiting = append(in.Waiting, waits(i, chat).Waiting)
	}
	plan := Plan(in)
	want := "position 1 of those that wait for ModelLicense acme: 4 of 4 pods of ModelLicense acme are in use, by ml/oldest, " +
		"a pod of ModelGrant ml/chat, a pod of ModelGrant ml/chat and 1 more"
	if plan[0].Message != want {
		t.Errorf("got  %s\nwant %s", plan[0].Message, want)
	}
	if got := plan[21].Message; !strings.HasPrefix(got, "more than 20 pods wait before it for ModelLicense acme: ") {
		t.Errorf("got %s", got)
	}
}

func TestPlanChangesNothing(t *testing.T) {
	l := Empty(license(1, "pods", "2"))
	must(t, l, take(100))
	before := &v1alpha1.ModelSeats{}
	l.Encode(before)
	in := PlanInput{Ledgers: ledgers(l), Waiting: []Waiting{waits(1, chat).Waiting, waits(2, chat).Waiting}}
	first := planned(in)
	slices.Reverse(in.Waiting)
	if second := planned(in); first != second {
		t.Errorf("the order in which pods are given matters: %s, then %s", first, second)
	}
	after := &v1alpha1.ModelSeats{}
	l.Encode(after)
	if !equality.Semantic.DeepEqual(before, after) {
		t.Errorf("the ledger was changed: %v, then %v", before, after)
	}
}

// TestTurnsOfTheOnlySeat: a grant with many pods has the only seat no more often than one with a few.
func TestTurnsOfTheOnlySeat(t *testing.T) {
	a, b := grantNamed("a"), grantNamed("b")
	waiting := []*waiter{waits(11, b), waits(12, b)}
	for n := 1; n < 6; n++ {
		waiting = append(waiting, waits(n, a)) // all are older than those of b
	}
	last := map[Grant]time.Time{}
	var order []string
	for turn := 0; len(waiting) > 0; turn++ {
		in := PlanInput{
			Now: at(100 + turn), Ledgers: ledgers(Empty(license(1, "pods", "1"))),
			LastTurn: func(_ string, g Grant) time.Time { return last[g] },
		}
		for _, w := range waiting {
			in.Waiting = append(in.Waiting, w.Waiting)
		}
		next := Plan(in)[0]
		if !next.Take {
			t.Fatalf("nobody has the seat: %+v", next)
		}
		last[waiting[next.Index].Wants[0].Grant] = in.Now
		order = append(order, strings.TrimPrefix(waiting[next.Index].Name, "ml/pod-"))
		waiting = slices.Delete(waiting, next.Index, next.Index+1)
	}
	if got := strings.Join(order, " "); got != "1 11 2 12 3 4 5" {
		t.Errorf("the seat went to %s", got)
	}
}
