package seats

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "300") // what is given on the command line comes later, and wins
	flag.Parse()
	os.Exit(m.Run())
}

// queueWorld are waiting pods and groups of them before several licences.
type queueWorld struct {
	ledgers map[string]*Ledger
	waiting map[types.UID]Waiting
	size    map[string]int // of groups, 0 where pods do not say
	members map[string]int // how many pods a group has
	begun   map[string][]types.UID
	ended   map[string]int
}

func drawQueueWorld(t *rapid.T) *queueWorld {
	w := &queueWorld{
		ledgers: map[string]*Ledger{}, waiting: map[types.UID]Waiting{}, size: map[string]int{}, members: map[string]int{},
		begun: map[string][]types.UID{}, ended: map[string]int{},
	}
	names := []string{"acme", "beta", "zeta"}
	for _, name := range names {
		w.ledgers[name] = named(name, Empty(license(1, "pods", fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "pods")),
			string(gpu), fmt.Sprint(rapid.IntRange(1, 8).Draw(t, "gpus")))))
	}
	for i := range rapid.IntRange(1, 25).Draw(t, "waiting") {
		pod := Waiting{
			Pod: uid(i), Name: fmt.Sprint("ml/pod-", i), Created: at(rapid.IntRange(0, 5).Draw(t, "created")),
			Priority: int32(rapid.IntRange(0, 2).Draw(t, "priority")),
		}
		grant := rapid.SampledFrom(modelGrants).Draw(t, "grant")
		for _, name := range names {
			if rapid.Bool().Draw(t, "wants "+name) {
				pod.Wants = append(pod.Wants, Want{
					License: name, Grant: grant, Amount: list(string(gpu), fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "gpus"))),
					GrantLimits: list("pods", fmt.Sprint(2+len(grant.Name))),
				})
			}
		}
		if rapid.Bool().Draw(t, "grouped") {
			pod.Group = rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")
			w.members[pod.Group]++
		}
		w.waiting[pod.Pod] = pod
	}
	for group, n := range w.members {
		if rapid.Bool().Draw(t, "the group says its size") {
			w.size[group] = n
		}
	}
	return w
}

func (w *queueWorld) plan() (PlanInput, []Allocation) {
	in := PlanInput{Now: at(60), Ledgers: w.ledgers}
	for i := range 25 {
		if pod, ok := w.waiting[uid(i)]; ok {
			in.Waiting = append(in.Waiting, pod)
		}
	}
	for _, group := range []string{"g", "h"} {
		in.Groups = append(in.Groups, GroupState{Key: group, Size: w.size[group], Held: w.begun[group], Finished: w.ended[group]})
	}
	return in, Plan(in)
}

// takeAll applies what was planned, and checks that it can be.
func (w *queueWorld) takeAll(t *rapid.T, in PlanInput, plan []Allocation) (taken int) {
	if len(plan) != len(in.Waiting) {
		t.Fatalf("%d pods wait, %d were planned", len(in.Waiting), len(plan))
	}
	together, left := map[string]int{}, map[string]int{}
	for _, a := range plan {
		pod := in.Waiting[a.Index]
		if !a.Take {
			left[pod.Group]++
			if a.Reason == "" || a.Message == "" {
				t.Fatalf("%+v says nothing", a)
			}
			if a.Reason == v1alpha1.ReasonTooLarge {
				delete(w.waiting, pod.Pod)
				w.ended[pod.Group]++
				taken++
			}
			continue
		}
		for _, want := range pod.Wants {
			take := Take{Pod: pod.Pod, Grant: want.Grant, GrantLimits: want.GrantLimits, Amount: want.Amount, Generation: 1, Since: at(60)}
			if r := w.ledgers[want.License].Apply(take)[0]; !r.OK() {
				t.Fatalf("%s was planned and then refused in %s: %+v", pod.Name, want.License, r)
			}
		}
		taken++
		together[pod.Group]++
		delete(w.waiting, pod.Pod)
		if len(pod.Wants) > 0 && pod.Group != "" {
			w.begun[pod.Group] = append(w.begun[pod.Group], pod.Pod)
		} else if pod.Group != "" {
			w.ended[pod.Group]++
		}
	}
	return taken
}

func (w *queueWorld) holders() (n int) {
	for _, l := range w.ledgers {
		n += l.Len()
	}
	return n
}

// TestPlanAgainstModel: what is planned can be taken, groups begin together, and everything that fits has its turn.
func TestPlanAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawQueueWorld(t)
		for len(w.waiting) > 0 {
			before := map[string]bool{}
			for group := range w.members {
				before[group] = len(w.begun[group]) > 0
			}
			in, plan := w.plan()
			took := w.takeAll(t, in, plan)
			for group := range w.members {
				if before[group] || len(w.begun[group]) == 0 {
					continue
				}
				for _, pod := range w.waiting {
					if pod.Group == group {
						t.Fatalf("group %s has begun without %s", group, pod.Name)
					}
				}
			}
			if took == 0 && w.holders() == 0 {
				t.Fatalf("%d pods wait for nothing: %+v", len(w.waiting), plan)
			}
			w.endSome(t, took == 0)
		}
	})
}

// endSome ends some holders; at least one where it must.
func (w *queueWorld) endSome(t *rapid.T, must bool) {
	for i := range 25 {
		held := false
		for _, l := range w.ledgers {
			_, holds := l.Holder(uid(i))
			held = held || holds
		}
		if !held || !must && rapid.Bool().Draw(t, "goes on") {
			continue
		}
		must = false
		for _, l := range w.ledgers {
			l.Apply(End{Pod: uid(i), At: at(90)})
		}
		for group, pods := range w.begun {
			for j, pod := range pods {
				if pod == uid(i) {
					w.begun[group] = append(pods[:j:j], pods[j+1:]...)
					w.ended[group]++
				}
			}
		}
	}
}
