package controllers

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// boundSeat is a ledger with one seat, of a pod on a node.
func boundSeat(t *testing.T, license *v1alpha1.ModelLicense, pod types.UID, node string) *seats.Ledger {
	t.Helper()
	ledger := seats.Empty(license)
	take := seats.Take{Pod: pod, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: "0c0ffee0-0000-4000-8000-000000000009"}, Generation: license.Generation, Since: seatTook}
	for _, result := range ledger.Apply(take, seats.Bind{Pod: pod, Node: node}) {
		if !result.OK() {
			t.Fatal(result.Message)
		}
	}
	return ledger
}

// TestNodesThatChangeWhileTheyAreReadAreLookedAt: a node is read for the first time, and changes before the look at its ledger
// is over. No other event follows.
func TestNodesThatChangeWhileTheyAreReadAreLookedAt(t *testing.T) {
	const uid = "0c0ffee0-0000-4000-8000-000000000001"
	license, node := leasing(time.Hour), seatNodeOf("n", "n")
	ledger := boundSeat(t, license, uid, "n")
	r := &SeatEndReconciler{memory: map[string]*seatMemory{}}
	var woken []string
	r.wake = func(license string) { woken = append(woken, license) }
	r.Client = fake.NewClientBuilder().WithObjects(node).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			err := c.Get(ctx, key, o, options...)
			if key.Name == "n" {
				out := node.DeepCopy()
				out.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
				r.nodeChanged(node, out)
			}
			return err
		},
	}).Build()
	r.Pods = NewSeatPods(clocktesting.NewFakePassiveClock(seatNow), holdersOf{uid: true})
	r.Pods.observe(seatPodOf("a", uid, "n"), false)
	memory := r.memoryOf("chat")
	memory.note(license, ledger, seatNow)
	if err := r.newPass(ledger, license, memory, seatNow).decide(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(woken) == 0 {
		t.Error("nobody looks at the seat of a pod whose node is out of service")
	}
}

// TestSeatsThatAreThereAgainAreLookedAtAgain: a seat that was ended is not ended again by a cache that is behind; but where it
// stays, since somebody put it back, it is in the end.
func TestSeatsThatAreThereAgainAreLookedAtAgain(t *testing.T) {
	const uid = "0c0ffee0-0000-4000-8000-000000000001"
	license := leasing(time.Hour)
	ledger := boundSeat(t, license, uid, "n")
	api := fake.NewClientBuilder().Build()
	r := &SeatEndReconciler{Client: api, Live: api, memory: map[string]*seatMemory{}}
	r.Pods = NewSeatPods(clocktesting.NewFakePassiveClock(seatNow), holdersOf{uid: true})
	r.Pods.observe(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "a", UID: uid}, Spec: corev1.PodSpec{NodeName: "n"}}, false)
	memory := r.memoryOf("chat")
	memory.note(license, ledger, seatNow)
	memory.ended = map[types.UID]seatNotice{uid: {since: seatNow, held: seatTook}}
	pass := func(after time.Duration) *seatPass {
		t.Helper()
		p := r.newPass(ledger, license, memory, seatNow.Add(after))
		if err := p.decide(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	due := seatNow.Add(endedRemembered)
	if p := pass(time.Second); len(p.ends) > 0 || !p.again.Equal(due) {
		t.Errorf("%d ends, and looked at again at %v, want %v", len(p.ends), p.again, due)
	}
	if p := pass(endedRemembered); len(p.ends) != 1 {
		t.Errorf("%d ends, when no cache is so far behind", len(p.ends))
	}
}
