package controllers

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// TestAttention: the node is made to look at once and three times more, each once however late.
func TestAttention(t *testing.T) {
	for name, tc := range map[string]struct {
		looks  []time.Duration
		onNode bool
		waits  []time.Duration // after each look; 0: nothing is due any more
	}{
		"in time":       {[]time.Duration{0, 2 * time.Second, 10 * time.Second, time.Minute}, true, []time.Duration{2 * time.Second, 8 * time.Second, 50 * time.Second, 0}},
		"late":          {[]time.Duration{0, 11 * time.Second}, true, []time.Duration{2 * time.Second, 49 * time.Second}},
		"too late":      {[]time.Duration{0, time.Hour}, true, []time.Duration{2 * time.Second, 0}},
		"not on a node": {[]time.Duration{0}, false, []time.Duration{0}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &proceeding{seen: noon}
			for i, at := range tc.looks {
				now := noon.Add(at)
				if !p.isDue(now) {
					t.Errorf("after %s nothing is due", at)
				}
				p.passed(now, tc.onNode)
				if p.isDue(now) {
					t.Errorf("after %s it is due twice", at)
				}
				if got := p.wait(now, false); got != tc.waits[i] {
					t.Errorf("after %s it waits %s, want %s", at, got, tc.waits[i])
				}
			}
		})
	}
}

// TestWaitToEvict: the next try to evict is waited for, unless the pod is on its way.
func TestWaitToEvict(t *testing.T) {
	p := &proceeding{seen: noon.Add(-time.Hour), asked: len(attentionAfter), tryAgain: noon.Add(5 * time.Second)}
	if got := p.wait(noon, true); got != 5*time.Second {
		t.Errorf("waits %s", got)
	}
	if got := p.wait(noon, false); got != 0 {
		t.Errorf("waits %s for what it is not to do", got)
	}
	p.removed = true
	if got := p.wait(noon, true); got != 0 {
		t.Errorf("waits %s for what has happened", got)
	}
}

// TestProceedings: a later pod of the same name has its own, which owes what the other did.
func TestProceedings(t *testing.T) {
	var all proceedings
	pod := podOnNode(chatImage)
	name := client.ObjectKeyFromObject(pod)
	first := all.of(pod, noon)
	first.owed = []audit.Entry{{ID: "a"}}
	if all.of(pod, noon.Add(time.Minute)) != first || !first.seen.Equal(noon) {
		t.Error("a proceeding begins anew")
	}
	later := podOnNode(chatImage)
	later.UID = "later"
	second := all.of(later, noon)
	if second == first || len(all.debt(name)) != 1 {
		t.Errorf("%+v owes %v", second, all.debt(name))
	}
	if all.paid(name); len(all.debt(name)) != 0 || !all.end(name) || all.end(name) {
		t.Error("a proceeding does not end")
	}
}

// TestWipesAreTold once, also of pods that are gone by then, and not of pods that have back what they lost.
func TestWipesAreTold(t *testing.T) {
	var all proceedings
	a, b, c := podOnNode(chatImage), podOnNode(chatImage), podOnNode(chatImage)
	a.UID, b.UID, c.UID = "a", "b", "c"
	a.Name, b.Name, c.Name = "a", "b", "c"
	for _, pod := range []types.UID{"a", "b", "c"} {
		p := podOnNode(chatImage)
		p.UID, p.Name = pod, string(pod)
		all.of(p, noon)
		reason := v1alpha1.ReasonNoGrant
		if pod == "b" {
			reason = v1alpha1.ReasonSurgeEnded
		}
		all.waits(p, noon, []loss{{name: "chat", reason: reason}})
	}
	if got := all.surged("chat", func(types.UID) bool { return false }); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("surged: %v", got)
	}
	if got := all.surged("chat", func(types.UID) bool { return true }); len(got) != 0 {
		t.Errorf("still surged: %v", got)
	}
	all.end(client.ObjectKeyFromObject(a))
	all.restored(c)
	every := func(types.UID) bool { return true }
	if got := all.wiped("chat", func(types.UID) bool { return false }); len(got) != 0 {
		t.Errorf("none was wiped: %v", got)
	}
	if got := all.wiped("chat", every); len(got) != 2 {
		t.Errorf("wiped: %v, want a and b", got)
	}
	if got := all.wiped("chat", every); len(got) != 0 {
		t.Errorf("told twice: %v", got)
	}
}

// TestFastWipesAreNotWaitedFor: a node may have wiped a key, and the ledger may say so, before the operator has heard that its
// call for that was written. No other event may ever follow.
func TestFastWipesAreNotWaitedFor(t *testing.T) {
	license, pod, ledgers := chatLicense(), podOnNode(chatImage), heldLedgers{}
	pod.Spec.Volumes = builders.Pod("ml", "llm").Container("a", chatImage).KeyVolume("chat", "a").Obj().Spec.Volumes
	ledgers.holds(t, license, pod, nil)
	r := &RevocationReconciler{Ledgers: ledgers, Clock: testingclock.NewFakePassiveClock(noon)}
	r.Client = fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(pod.DeepCopy()).WithStatusSubresource(&corev1.Pod{}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				ledgers["chat"].Apply(seats.Wipe{Pod: pod.UID})
				r.ledgerWritten("chat")
				return nil
			},
		}).Build()
	lost := []loss{{name: "chat", license: license, reason: v1alpha1.ReasonNoGrant}}
	if !lost[0].onNode(pod) {
		t.Fatal("no key lies on the node")
	}
	r.times = newRightsTimes(clock.RealClock{}, r.Clock, nil, nil)
	defer r.times.queue.ShutDown()
	if err := r.notify(t.Context(), pod, r.proceedings.of(pod, noon), lost, nil); err != nil {
		t.Fatal(err)
	}
	if !isWiped(ledgers, "chat", pod.UID) {
		t.Fatal("the key is not wiped")
	}
	if since := r.proceedings.oldestWipe(); !since.IsZero() {
		t.Errorf("its wipe is waited for since %v", since)
	}
}
