package seats

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func TestTakeWithinLimits(t *testing.T) {
	tests := map[string]struct {
		limits, grantLimits []string
		taken               []Change
		take                []string
		want                v1alpha1.Reason
		words               string
	}{
		"no limits":               {take: []string{"cpu", "64"}},
		"pods":                    {limits: []string{"pods", "1"}, taken: []Change{take(1)}, want: v1alpha1.ReasonWaitingForSeat, words: "1 of 1 pods of ModelLicense acme are in use"},
		"a device":                {limits: []string{"nvidia.com/gpu", "8"}, taken: []Change{take(1, "nvidia.com/gpu", "6")}, take: []string{"nvidia.com/gpu", "3"}, want: v1alpha1.ReasonWaitingForSeat, words: "6 of 8 nvidia.com/gpu"},
		"a device to the last":    {limits: []string{"nvidia.com/gpu", "8"}, taken: []Change{take(1, "nvidia.com/gpu", "6")}, take: []string{"nvidia.com/gpu", "2"}},
		"another device":          {limits: []string{"nvidia.com/gpu", "8"}, taken: []Change{take(1, "nvidia.com/gpu", "8")}, take: []string{"cpu", "1"}},
		"thousandths of a core":   {limits: []string{"cpu", "1"}, taken: []Change{take(1, "cpu", "999m")}, take: []string{"cpu", "2m"}, want: v1alpha1.ReasonWaitingForSeat, words: "999m of 1 cpu"},
		"too large":               {limits: []string{"memory", "1Gi"}, take: []string{"memory", "1025Mi"}, want: v1alpha1.ReasonTooLarge, words: "the pod wants 1025Mi memory, but ModelLicense acme allows 1Gi at all"},
		"no pods at all":          {limits: []string{"pods", "0"}, want: v1alpha1.ReasonTooLarge},
		"no nodes at all":         {limits: []string{"nodes", "0"}, want: v1alpha1.ReasonTooLarge},
		"the grant's":             {limits: []string{"pods", "4"}, grantLimits: []string{"pods", "1"}, taken: []Change{take(1)}, want: v1alpha1.ReasonWaitingForSeat, words: "1 of 1 pods of ModelGrant ml/chat are in use"},
		"too large for it":        {grantLimits: []string{"nvidia.com/gpu", "1"}, take: []string{"nvidia.com/gpu", "2"}, want: v1alpha1.ReasonTooLarge, words: "ModelGrant ml/chat allows 1 at all"},
		"another grant's":         {grantLimits: []string{"pods", "1"}, taken: []Change{Take{Pod: uid(1), Grant: grantNamed("other"), Generation: 1}}},
		"negative amounts":        {limits: []string{"nvidia.com/gpu", "1"}, taken: []Change{take(1, "nvidia.com/gpu", "-5"), take(2, "nvidia.com/gpu", "1")}, take: []string{"nvidia.com/gpu", "1"}, want: v1alpha1.ReasonWaitingForSeat},
		"amounts beyond counting": {limits: []string{"nvidia.com/gpu", "8"}, take: []string{"nvidia.com/gpu", "1e30"}, want: v1alpha1.ReasonTooLarge},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := Empty(license(1, test.limits...))
			must(t, l, test.taken...)
			c := take(9, test.take...)
			c.GrantLimits = list(test.grantLimits...)
			before := l.Len()
			r := reason(t, l, test.want, c)
			if !strings.Contains(r.Message, test.words) {
				t.Errorf("message %q, want %q in it", r.Message, test.words)
			}
			if _, holds := l.Holder(uid(9)); holds != (test.want == "") || r.Changed != holds || l.Len() < before {
				t.Errorf("holds %v, changed %v", holds, r.Changed)
			}
			again := stored(t, l).Apply(c)[0]
			if again.Reason != test.want || again.Changed {
				t.Errorf("a second time: %+v", again)
			}
		})
	}
}

func TestTakeByGeneration(t *testing.T) {
	l := Empty(license(3))
	for generation, want := range map[int64]v1alpha1.Reason{2: v1alpha1.ReasonWaitingForSeat, 3: "", 4: v1alpha1.ReasonWaitingForSeat} {
		c := take(int(generation))
		c.Generation = generation
		if r := reason(t, l, want, c); r.Stale != (want != "") {
			t.Errorf("generation %d: stale is %v", generation, r.Stale)
		}
	}
}

func TestLimit(t *testing.T) {
	other := license(1, "pods", "9")
	other.UID = "license-2"
	tests := map[string]struct {
		limit          Limit
		stale, changed bool
		pods           string
	}{
		"the same":                    {Limit{License: license(3, "pods", "4")}, false, false, "4"},
		"the same, written otherwise": {Limit{License: license(3, "pods", "4000m")}, false, false, "4"},
		"a newer generation":          {Limit{License: license(4, "pods", "2")}, false, true, "2"},
		"an older generation":         {Limit{License: license(2, "pods", "8")}, true, false, "4"},
		"another licence":             {Limit{License: other}, true, false, "4"},
		"another licence, confirmed":  {Limit{License: other, Confirmed: true}, false, true, "9"},
		"none":                        {Limit{}, false, false, "4"},
		"an older one, confirmed":     {Limit{License: license(2, "pods", "8"), Confirmed: true}, false, true, "8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := Empty(license(3, "pods", "4"))
			must(t, l, Take{Pod: uid(1), Grant: chat, Generation: 3})
			r := l.Apply(test.limit)[0]
			if r.Stale != test.stale || r.Changed != test.changed || r.OK() == test.stale {
				t.Errorf("got %+v", r)
			}
			if got := l.Limits()["pods"]; got.String() != test.pods || l.Len() != 1 {
				t.Errorf("%s pods, %d holders", got.String(), l.Len())
			}
			if r := l.Apply(test.limit)[0]; r.Changed {
				t.Error("a second time it changes something")
			}
		})
	}
}

func TestShrink(t *testing.T) {
	l := Empty(license(1, "pods", "4"))
	for i := range 4 {
		c := take(i)
		c.Since = at(i)
		must(t, l, c)
	}
	must(t, l, Limit{License: license(2, "pods", "2")})
	if l.Len() != 4 || l.BeyondLimits() != 2 {
		t.Errorf("%d holders, %d beyond", l.Len(), l.BeyondLimits())
	}
	c := take(9)
	c.Generation = 2
	must(t, l, End{Pod: uid(0), At: at(9)})
	reason(t, l, v1alpha1.ReasonWaitingForSeat, c)
	must(t, l, Release{Pod: uid(3), Node: "n"}) // who holds a seat keeps it
	must(t, l, End{Pod: uid(1), At: at(9)})
	reason(t, l, v1alpha1.ReasonWaitingForSeat, c)
	must(t, l, End{Pod: uid(2), At: at(9)}, c)
	if l.BeyondLimits() != 0 {
		t.Errorf("%d beyond", l.BeyondLimits())
	}
}

func TestNodes(t *testing.T) {
	l := Empty(license(1, "nodes", "2"))
	must(t, l, take(1), take(2))
	r := reason(t, l, v1alpha1.ReasonWaitingForSeat, take(3))
	if !strings.Contains(r.Message, "2 of 2 nodes are reserved for pods that are not scheduled yet") {
		t.Error(r.Message)
	}
	must(t, l, Bind{uid(1), "n1"}, Bind{uid(2), "n1"})
	if r := must(t, l, take(3))[0]; len(r.Confine) > 0 {
		t.Errorf("confined to %v though a node is left", r.Confine)
	}
	must(t, l, Bind{uid(3), "n2"})
	for range 2 {
		if r := must(t, l, take(4))[0]; !slices.Equal(r.Confine, []string{"n1", "n2"}) {
			t.Errorf("confined to %v", r.Confine)
		}
		l = stored(t, l)
	}
	if h, _ := l.Holder(uid(4)); !h.Confined {
		t.Error("it is not said to be confined")
	}
	must(t, l, End{Pod: uid(3), At: at(9)})
	if !slices.Equal(l.Nodes(), []string{"n1", "n2"}) {
		t.Errorf("nodes %v: that to which a confined pod may come stays in use", l.Nodes())
	}
	if r := must(t, stored(t, l), take(5))[0]; !slices.Equal(r.Confine, []string{"n1", "n2"}) {
		t.Errorf("confined to %v", r.Confine)
	}
	must(t, l, Bind{uid(4), "n1"})
	if !slices.Equal(l.Nodes(), []string{"n1"}) {
		t.Errorf("nodes %v", l.Nodes())
	}
}

func TestNodesOfAGrant(t *testing.T) {
	l := Empty(license(1, "nodes", "3"))
	by := func(pod int, grant Grant) Take {
		c := take(pod)
		c.Grant, c.GrantLimits = grant, list("nodes", "1")
		return c
	}
	other := grantNamed("other")
	must(t, l, by(1, chat))
	reason(t, l, v1alpha1.ReasonWaitingForSeat, by(2, chat))
	must(t, l, Bind{uid(1), "n1"}, by(3, other), Bind{uid(3), "n2"})
	if r := must(t, l, by(2, chat))[0]; !slices.Equal(r.Confine, []string{"n1"}) {
		t.Errorf("confined to %v, not to the grant's", r.Confine)
	}
	if got := l.InUseBy(chat)[ResourceNodes]; got.String() != "1" {
		t.Errorf("%s nodes of the grant in use", got.String())
	}
	r := reason(t, l, v1alpha1.ReasonNodeLimit, Release{Pod: uid(2), Node: "n2"})
	if !strings.Contains(r.Message, "ModelGrant ml/chat allows") {
		t.Error(r.Message)
	}
}

func TestRelease(t *testing.T) {
	l := Empty(license(1, "nodes", "1", "pods", "2"))
	must(t, l, take(1), Bind{uid(1), "n1"}, take(2), Adopt{Pod: uid(3), Grant: chat, Node: "n1"}, take(1))
	reason(t, l, v1alpha1.ReasonNoSeat, Release{Pod: uid(9), Node: "n1"})
	reason(t, l, v1alpha1.ReasonNoSeat, Release{Pod: uid(1), Node: "n2"})
	reason(t, l, v1alpha1.ReasonNoSeat, Release{Pod: uid(3), Node: "n1"})
	reason(t, l, v1alpha1.ReasonNodeLimit, Release{Pod: uid(2), Node: "n2"})
	reason(t, l, v1alpha1.ReasonNodeLimit, Release{Pod: uid(2), Node: "n2"})
	if h, _ := l.Holder(uid(2)); h.Released || h.Kind != Adopted || h.Node != "n2" {
		t.Errorf("%+v", h)
	}
	must(t, l, Wipe{uid(1)}, Release{Pod: uid(1), Node: "n1"})
	if h, _ := l.Holder(uid(1)); !h.Released || h.Wiped || h.Node != "n1" {
		t.Errorf("%+v", h)
	}
	if r := must(t, l, Release{Pod: uid(1), Node: "n1"})[0]; r.Changed {
		t.Error("a second release changes something")
	}
	must(t, l, Expire{uid(1), at(60)})
	reason(t, l, v1alpha1.ReasonLeaseEnding, Release{Pod: uid(1), Node: "n1"})
	must(t, l, Renew{uid(1)}, Release{Pod: uid(1), Node: "n1"})
}

func TestAdopt(t *testing.T) {
	l := Empty(license(1, "pods", "2"))
	adopt := func(pod int) Adopt {
		return Adopt{Pod: uid(pod), Grant: chat, Node: "n1", Since: at(pod), Amount: list("cpu", "1")}
	}
	for pod, want := range []Kind{Regular, Regular, Adopted, Adopted} {
		if r := must(t, l, adopt(pod))[0]; r.Kind != want || !r.Changed {
			t.Errorf("pod %d: %+v", pod, r)
		}
		if r := must(t, l, adopt(pod))[0]; r.Kind != want || r.Changed {
			t.Errorf("pod %d again: %+v", pod, r)
		}
	}
	reason(t, l, v1alpha1.ReasonWaitingForSeat, take(9))
	if l.BeyondLimits() != 2 {
		t.Errorf("%d beyond", l.BeyondLimits())
	}
	must(t, l, End{Pod: uid(0), At: at(9)})
	third, _ := l.Holder(uid(2))
	fourth, _ := l.Holder(uid(3))
	if third.Kind != Regular || fourth.Kind != Adopted {
		t.Errorf("what became free went to %s and %s", third.Kind, fourth.Kind)
	}
	reason(t, l, v1alpha1.ReasonWaitingForSeat, take(9))
	must(t, l, Limit{License: license(2, "pods", "3")})
	if fourth, _ := l.Holder(uid(3)); fourth.Kind != Regular {
		t.Error("a raised limit helps nobody")
	}
}

func TestAdoptWithinTheGrant(t *testing.T) {
	l := Empty(license(1))
	adopt := Adopt{Pod: uid(2), Grant: chat, GrantLimits: list("pods", "1")}
	must(t, l, take(1))
	if r := must(t, l, adopt)[0]; r.Kind != Adopted {
		t.Errorf("it is %s", r.Kind)
	}
	must(t, l, Limit{License: license(2)})
	if r := must(t, l, adopt)[0]; r.Kind != Adopted {
		t.Errorf("it turned %s though its grant has no room", r.Kind)
	}
	adopt.GrantLimits = list("pods", "3")
	if r := must(t, l, adopt)[0]; r.Kind != Regular {
		t.Errorf("it is %s though its grant has room now", r.Kind)
	}
}

func TestSurge(t *testing.T) {
	old := []types.UID{uid(1), uid(2)}
	surge := func(pod int, pairs ...string) Take {
		c := take(pod, pairs...)
		c.Surge = &SurgeFor{Pods: 1, Period: 10 * time.Minute, Replaces: old}
		return c
	}
	begin := func() *Ledger {
		l := Empty(license(1, "pods", "2", "nvidia.com/gpu", "2", "nodes", "1"))
		must(t, l, take(1, "nvidia.com/gpu", "1"), Bind{uid(1), "n1"}, take(2, "nvidia.com/gpu", "1"))
		return l
	}
	l := begin()
	r := must(t, l, surge(3, "nvidia.com/gpu", "1"))[0]
	h, _ := stored(t, l).Holder(uid(3))
	if r.Kind != Surge || h.Kind != Surge || !h.SurgeUntil.Equal(at(600)) || !slices.Equal(r.Confine, []string{"n1"}) {
		t.Errorf("%+v, %+v", r, h)
	}
	reason(t, l, v1alpha1.ReasonWaitingForSeat, surge(4, "nvidia.com/gpu", "1")) // there are no more
	must(t, l, Release{Pod: uid(3), Node: "n1"}, End{Pod: uid(2), At: at(60)})
	if h, _ := l.Holder(uid(3)); h.Kind != Regular || !h.SurgeUntil.IsZero() {
		t.Errorf("with room it is still %+v", h)
	}
	if r := must(t, l, surge(4, "nvidia.com/gpu", "1"))[0]; r.Kind != Surge {
		t.Errorf("the next is %s", r.Kind)
	}

	reason(t, begin(), v1alpha1.ReasonWaitingForSeat, take(3, "nvidia.com/gpu", "1"))
	reason(t, begin(), v1alpha1.ReasonWaitingForSeat, surge(3, "nvidia.com/gpu", "2")) // more than what it replaces
	none := surge(3)
	none.Surge.Replaces = []types.UID{uid(7)}
	reason(t, begin(), v1alpha1.ReasonWaitingForSeat, none)
	shrunk := begin()
	must(t, shrunk, Limit{License: license(2, "pods", "1")})
	late := surge(3)
	late.Generation = 2
	reason(t, shrunk, v1alpha1.ReasonWaitingForSeat, late) // the others are beyond the limits
}

func TestResize(t *testing.T) {
	l := Empty(license(1, "cpu", "4"))
	must(t, l, take(1, "cpu", "1"), take(2, "cpu", "2"))
	must(t, l, Resize{Pod: uid(1), Amount: list("cpu", "2"), At: at(10)})
	reason(t, l, v1alpha1.ReasonSeatsFull, Resize{Pod: uid(1), Amount: list("cpu", "2500m"), At: at(20)})
	reason(t, l, v1alpha1.ReasonNoSeat, Resize{Pod: uid(9), Amount: list("cpu", "1")})
	if r := must(t, l, Resize{Pod: uid(1), Amount: list("cpu", "2"), At: at(30)})[0]; r.Changed {
		t.Error("the same amount changes something")
	}
	r := must(t, l, Resize{Pod: uid(1), Amount: list("cpu", "3"), Force: true, At: at(20)})[0]
	if r.Kind != Adopted || l.BeyondLimits() != 1 {
		t.Errorf("%+v, %d beyond", r, l.BeyondLimits())
	}
	must(t, l, Resize{Pod: uid(2), Amount: list("cpu", "1"), At: at(40)})
	if h, _ := l.Holder(uid(1)); h.Kind != Regular {
		t.Error("what became free went to nobody")
	}
	l = stored(t, l)
	r = must(t, l, End{Pod: uid(1), At: at(50)})[0]
	if r.Ended.Usage.PodSeconds != 50 || r.Ended.Usage.ResourceSeconds["cpu"] != 30*3 {
		t.Errorf("%+v", r.Ended.Usage)
	}
	// 1 core for 10 s, 2 for 10 s, 3 for 30 s; and 2 for 40 s, 1 for 10 s.
	if got := l.Usage(at(50)); got.PodSeconds != 100 || got.ResourceSeconds["cpu"] != 10+20+90+80+10 {
		t.Errorf("%+v", got)
	}
}

func TestExpireRenewWipe(t *testing.T) {
	l := Empty(license(1))
	must(t, l, take(1))
	for _, c := range []Change{Expire{Pod: uid(9)}, Renew{uid(9)}, Wipe{uid(9)}, Bind{uid(9), "n"}} {
		reason(t, l, v1alpha1.ReasonNoSeat, c)
	}
	steps := []struct {
		change  Change
		changed bool
		until   time.Time
		wiped   bool
	}{
		{Renew{uid(1)}, false, time.Time{}, false},
		{Expire{uid(1), at(60)}, true, at(60), false},
		{Expire{uid(1), at(90)}, false, at(60), false},
		{Expire{uid(1), at(30)}, true, at(30), false},
		{Wipe{uid(1)}, true, at(30), true},
		{Wipe{uid(1)}, false, at(30), true},
		{Renew{uid(1)}, true, time.Time{}, true},
	}
	for i, s := range steps {
		r := must(t, l, s.change)[0]
		l = stored(t, l)
		if h, _ := l.Holder(uid(1)); r.Changed != s.changed || !h.Until.Equal(s.until) || h.Wiped != s.wiped {
			t.Errorf("step %d: changed %v, %+v", i, r.Changed, h)
		}
	}
}

func TestEndCountsOnce(t *testing.T) {
	l := Empty(license(1))
	c := take(1, "cpu", "100m", "memory", "64Mi", "nvidia.com/gpu", "2")
	must(t, l, c, take(2))
	r := must(t, l, End{Pod: uid(1), At: at(7)})[0]
	if r.Ended == nil || r.Ended.Holder.Pod != uid(1) || r.Ended.Usage.PodSeconds != 7 || r.Ended.Usage.ResourceSeconds[gpu] != 14 {
		t.Fatalf("%+v", r)
	}
	if r := must(t, l, End{Pod: uid(1), At: at(99)})[0]; r.Ended != nil || r.Changed {
		t.Errorf("a second end: %+v", r)
	}
	must(t, l, take(1, "cpu", "100m"))       // it takes a seat again
	must(t, l, End{Pod: uid(1), At: at(-5)}) // and ends before it began
	for range 9 {
		must(t, l, take(1, "cpu", "100m", "memory", "64Mi"), End{Pod: uid(1), At: at(7)})
		l = stored(t, l)
	}
	want := v1alpha1.UsageStatus{PodSeconds: 70 + 8, ResourceSeconds: map[corev1.ResourceName]int64{
		gpu: 14, "cpu": 7, "memory": 4, // 10 times 0.7 cores, and 4.375 GiB, times seconds
	}}
	if got := l.Usage(at(8)); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := l.UsageOf(chat, at(8)); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("by grant: got %+v, want %+v", got, want)
	}
}

func TestGiveBack(t *testing.T) {
	l := Empty(license(1))
	must(t, l, take(1), take(2), Bind{uid(2), "n"})
	if r := must(t, l, GiveBack{Pod: uid(1)})[0]; r.Ended == nil || !r.Changed {
		t.Errorf("%+v", r)
	}
	if r := must(t, l, GiveBack{Pod: uid(1)})[0]; r.Ended != nil || r.Changed {
		t.Errorf("a second time: %+v", r)
	}
	reason(t, l, v1alpha1.ReasonAdmitted, GiveBack{Pod: uid(2)})
	must(t, l, take(3), Expire{uid(3), at(60)}, take(3)) // marked, and taken again by who did not see it
	reason(t, l, v1alpha1.ReasonAdmitted, GiveBack{Pod: uid(3), Until: at(60)})
	must(t, l, GiveBack{Pod: uid(3)})
	if l.Len() != 1 || l.Usage(at(0)).PodSeconds != 0 {
		t.Errorf("%d holders, usage %+v", l.Len(), l.Usage(at(0)))
	}
}
