package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func TestSeatStatusSummary(t *testing.T) {
	for want, test := range map[string]struct{ inUse, limits corev1.ResourceList }{
		"0":     {nothingInUse(), nil},
		"0/4":   {nothingInUse(), list("pods", "4")},
		"3/4":   {list("pods", "3", "nodes", "2"), list("pods", "4", "nodes", "2")},
		"5/4":   {list("pods", "5"), list("pods", "4")},
		"7":     {list("pods", "7", "nvidia.com/gpu", "8"), list("nvidia.com/gpu", "8")},
		"0/0":   {nothingInUse(), list("pods", "0")},
		"20k/1": {list("pods", "20k"), list("pods", "1")},
	} {
		if got := seatStatus(test.inUse, test.limits, WaitingSeats{}, 0).Summary; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOverLimit(t *testing.T) {
	for name, test := range map[string]struct {
		inUse, limits corev1.ResourceList
		beyond        int
		over          bool
		says          []string
	}{
		"nothing":          {nothingInUse(), list("pods", "0"), 0, false, nil},
		"full":             {list("pods", "4", "nvidia.com/gpu", "8"), list("pods", "4", "nvidia.com/gpu", "8"), 0, false, nil},
		"not limited":      {list("pods", "4", "cpu", "9000"), list("pods", "4"), 0, false, nil},
		"too many pods":    {list("pods", "5"), list("pods", "4"), 1, true, []string{"5 pods of 4"}},
		"too much of two":  {list("pods", "5", "memory", "2Gi"), list("pods", "4", "memory", "1Gi"), 1, true, []string{"2Gi memory of 1Gi", "5 pods of 4"}},
		"beyond a grant's": {list("pods", "3"), list("pods", "4"), 1, true, []string{"1 pods hold seats beyond"}},
	} {
		t.Run(name, func(t *testing.T) {
			var conditions []metav1.Condition
			setOverLimit(&conditions, 7, seatStatus(test.inUse, test.limits, WaitingSeats{}, test.beyond))
			c := meta.FindStatusCondition(conditions, v1alpha1.ConditionOverLimit)
			if c == nil || (c.Status == metav1.ConditionTrue) != test.over || c.ObservedGeneration != 7 {
				t.Fatalf("got %+v", c)
			}
			for _, says := range test.says {
				if !strings.Contains(c.Message, says) {
					t.Errorf("%q does not say %q", c.Message, says)
				}
			}
		})
	}
	var conditions []metav1.Condition
	setLedgerUnreadable(&conditions, 7, "chat", errors.New("holder 3 has no UID"))
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionOverLimit); c.Status != metav1.ConditionUnknown || c.Reason != string(v1alpha1.ReasonLedgerUnreadable) {
		t.Errorf("got %+v", c)
	}
}

func TestShownHolders(t *testing.T) {
	until := seatNow.Add(time.Hour)
	holders := []seats.Holder{
		{Pod: "1", Grant: seats.Grant{Namespace: "ml", Name: "chat"}, Node: "n", Since: seatTook},
		{Pod: "2", Grant: seats.Grant{Namespace: "ml", Name: "chat"}, Since: seatNow},
		{Pod: "3", Grant: seats.Grant{Namespace: "dev", Name: "chat"}, Node: "m", Since: seatNow, Until: until},
	}
	pods := map[types.UID]*corev1.Pod{"1": seatPodOf("a", "1", "n"), "2": seatPodOf("b", "2", "o")}
	want := []v1alpha1.SeatHolder{
		{UID: "1", Namespace: "ml", Pod: "a", Node: "n", Since: metav1.NewTime(seatTook)},
		{UID: "2", Namespace: "ml", Pod: "b", Node: "o", Since: metav1.NewTime(seatNow)},
		{UID: "3", Namespace: "dev", Node: "m", Since: metav1.NewTime(seatNow), Until: &metav1.Time{Time: until}},
	}
	if diff := cmp.Diff(want, shownHolders(holders, func(uid types.UID) *corev1.Pod { return pods[uid] })); diff != "" {
		t.Error(diff)
	}
	for i := range 200 {
		holders = append(holders, seats.Holder{Pod: types.UID(fmt.Sprint("more", i))})
	}
	if shown := shownHolders(holders, func(types.UID) *corev1.Pod { return nil }); len(shown) != maxShownHolders || shown[0].UID != "1" {
		t.Errorf("%d holders are shown", len(shown))
	}
}

func TestWaitingSum(t *testing.T) {
	sum := waitingSum(map[seats.Grant]WaitingSeats{
		{Name: "a"}: {Pods: 2, Resources: list("nvidia.com/gpu", "4")},
		{Name: "b"}: {Pods: 1, Resources: list("nvidia.com/gpu", "1", "cpu", "500m")},
	})
	if gpus, cpu := sum.Resources["nvidia.com/gpu"], sum.Resources["cpu"]; sum.Pods != 3 || gpus.Value() != 5 || cpu.MilliValue() != 500 {
		t.Errorf("got %+v", sum)
	}
}

func TestShownGrants(t *testing.T) {
	grant := func(license string, limits corev1.ResourceList, shown bool) *v1alpha1.ModelGrant {
		g := &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "chat", UID: "1"}}
		g.Spec.LicenseName, g.Spec.Limits = license, limits
		if shown {
			g.Status.Seats = &v1alpha1.SeatStatus{}
		}
		return g
	}
	for name, test := range map[string]struct {
		states []*v1alpha1.ModelGrant
		want   map[string]int
	}{
		"never used":          {[]*v1alpha1.ModelGrant{grant("a", nil, false)}, map[string]int{"a": 0}},
		"limits":              {[]*v1alpha1.ModelGrant{grant("a", list("pods", "1"), false)}, map[string]int{"a": 1}},
		"used":                {[]*v1alpha1.ModelGrant{grant("a", nil, false), grant("a", nil, true), grant("a", nil, true)}, map[string]int{"a": 1}},
		"of another licence":  {[]*v1alpha1.ModelGrant{grant("a", nil, true), grant("b", nil, true)}, map[string]int{"a": 0, "b": 1}},
		"limits taken away":   {[]*v1alpha1.ModelGrant{grant("a", list("pods", "1"), false), grant("a", nil, false)}, map[string]int{"a": 0}},
		"deleted":             {[]*v1alpha1.ModelGrant{grant("a", nil, true), nil}, map[string]int{"a": 0}},
		"deleted, never used": {[]*v1alpha1.ModelGrant{grant("a", nil, false), nil}, map[string]int{"a": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var s shownGrants
			var before *v1alpha1.ModelGrant
			for _, after := range test.states {
				s.note(before, after)
				before = after
			}
			for license, want := range test.want {
				if got := len(s.of(license)); got != want {
					t.Errorf("%d grants of licence %s are shown, want %d", got, license, want)
				}
			}
		})
	}
}

// TestStatusIsNotMissed: a status that was written and that the cache does not show yet is no reason to leave the next one
// unwritten, which the cache happens to show from before.
func TestStatusIsNotMissed(t *testing.T) {
	none, one := &v1alpha1.SeatStatus{Summary: "2/2"}, &v1alpha1.SeatStatus{Summary: "2/2", Waiting: 1}
	name := types.NamespacedName{Name: "chat"}
	m := &statusMemory{}
	if m.shows(name, none, one) || !m.shows(name, one, one) {
		t.Fatal("without anything written, the cache decides")
	}
	m.wrote(name, none)
	if m.shows(name, one, one) {
		t.Error("the cache shows what was before the last write, and the next one would be left out")
	}
	m.wrote(name, one)
	if !m.shows(name, one, one) || len(m.unseen) != 0 {
		t.Error("what the cache shows need not be remembered")
	}
}
