package seats

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/internal/seats/group"
)

// TestPlanKeepsNoMoreForAGroupThanItMayHave: whoever says that a group which has begun is larger than it was keeps nothing
// from others but what the group's own grant leaves it.
func TestPlanKeepsNoMoreForAGroupThanItMayHave(t *testing.T) {
	a, b := grantNamed("a"), grantNamed("b")
	l := Empty(license(1, "pods", "4"))
	must(t, l, Take{Pod: uid(100), Grant: a, GrantLimits: list("pods", "2"), Generation: 1, Since: at(0)})
	in := PlanInput{
		Now: at(60), Ledgers: ledgers(l), Groups: []GroupState{{Key: "g", Size: group.MaxSize, Held: []types.UID{uid(100)}}},
		Waiting: []Waiting{waits(1, b).Waiting, waits(2, b).Waiting, waits(3, b).Waiting, waits(4, a).group("g").within("pods", "2").Waiting},
	}
	if got, want := planned(in), "4:takes 1:takes 2:takes 3:WaitingForSeat@1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestPlanReservesNothingWhereNothingIsLimited: a ledger is not full for pods that do not exist.
func TestPlanReservesNothingWhereNothingIsLimited(t *testing.T) {
	for name, limits := range map[string][]string{"nothing limited": nil, "what nobody wants": {"nvidia.com/gpu", "1"}, "nodes": {"nodes", "1"}} {
		t.Run(name, func(t *testing.T) {
			l := Empty(license(1, limits...))
			in := PlanInput{Now: at(60), Ledgers: ledgers(l), Waiting: []Waiting{waits(1, grantNamed("b")).Waiting}}
			for i := range 4 {
				pod := uid(100 + i)
				if must(t, l, Take{Pod: pod, Grant: chat, Generation: 1, Since: at(0)}); i == 0 {
					must(t, l, Bind{pod, "n1"})
				}
				in.Groups = append(in.Groups, GroupState{Key: fmt.Sprint("g", i), Size: group.MaxSize, Held: []types.UID{pod}})
			}
			if got, want := planned(in), "1:takes"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestPlanOfManyLargeGroups: what a pod says of the size of its group costs neither memory nor time.
func TestPlanOfManyLargeGroups(t *testing.T) {
	const groups = 1000
	in := PlanInput{Now: at(60), Ledgers: ledgers(Empty(license(1, "cpu", "1000")))}
	for i := range groups {
		key := fmt.Sprint("g", i)
		in.Groups = append(in.Groups, GroupState{Key: key, Size: group.MaxSize})
		in.Waiting = append(in.Waiting, waits(i, chat, "cpu", "100m").group(key).Waiting)
	}
	var allocated uint64
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Plan(in)
		}
	})
	if allocated = uint64(result.AllocedBytesPerOp()); allocated > groups*10_000 {
		t.Errorf("a plan takes %d bytes", allocated)
	}
	if took := time.Duration(result.NsPerOp()); took > 5*time.Second {
		t.Errorf("a plan takes %s", took)
	}
	t.Logf("%s, %d bytes", time.Duration(result.NsPerOp()), allocated)
}
