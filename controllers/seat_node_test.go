package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
)

func TestSeatNodes(t *testing.T) {
	cut := metav1.NewTime(ago(time.Hour))
	node := func(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: cut}}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key})
		}
		return n
	}
	var nodes seatNodes
	lost := func(lease time.Duration) bool { return nodes.lost("n", lease, seatNow) }
	if lost(testLease) {
		t.Error("before nodes are known, one is lost")
	}
	synced := false
	nodes.synced = func() bool { return synced }
	if lost(testLease) {
		t.Error("before all nodes are known, one is lost")
	}
	synced = true
	if !lost(testLease) || nodes.lost("", testLease, seatNow) {
		t.Error("a node that does not exist is not lost, or a pod that has none is")
	}
	for _, step := range []struct {
		name       string
		node       any
		gone       bool
		back, lost bool
	}{
		{"new", node(corev1.ConditionTrue), false, true, false},
		{"as it was", node(corev1.ConditionTrue), false, false, false},
		{"not ready", node(corev1.ConditionFalse), false, false, false},
		{"cut off", node(corev1.ConditionUnknown), false, false, true},
		{"back", node(corev1.ConditionTrue), false, true, false},
		{"out of service", node(corev1.ConditionTrue, corev1.TaintNodeOutOfService), false, false, true},
		{"in service", node(corev1.ConditionTrue, "other"), false, true, false},
		{"gone", node(corev1.ConditionTrue), true, false, true},
		{"there again", node(corev1.ConditionTrue), false, true, false},
		{"gone while nobody looked", toolscache.DeletedFinalStateUnknown{Key: "n", Obj: node(corev1.ConditionTrue)}, true, false, true},
	} {
		if back := nodes.note(step.node, step.gone); back != step.back || lost(testLease) != step.lost {
			t.Errorf("%s: back %t, lost %t", step.name, back, lost(testLease))
		}
	}
	nodes.note(node(corev1.ConditionUnknown), false)
	if lost(testLease + time.Second) {
		t.Error("a node is lost before the lease is over")
	}
}

// TestPodsOnLostNodesGetNoSeats: the seat of such a pod has ended. It neither gets another nor holds up those that wait.
func TestPodsOnLostNodesGetNoSeats(t *testing.T) {
	license := seatLicense(nil)
	uid := types.UID("00000000-0000-4000-8000-000000000001")
	pod := seatPodOf("a", uid, "n")
	stands := standing{admitted: []admission{{use: entitlement.LicenseUse{License: license, Grant: &v1alpha1.ModelGrant{}}}}}
	for name, test := range map[string]struct {
		node   *corev1.Node
		ledger *seats.Ledger
		seated bool
		holds  int
	}{
		"has a seat":               {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, takenBy("chat", nil, seatNow, 1), false, 0}, // for another amount
		"lacks a seat":             {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, takenBy("chat", nil, seatNow), false, 1},
		"lacks a seat, node gone":  {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "m"}}, takenBy("chat", nil, seatNow), true, 0},
		"lacks a ledger":           {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, nil, false, 1},
		"has a seat, node is gone": {&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "m"}}, takenBy("chat", nil, seatNow, 1), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ledgers := ledgersOf{}
			if test.ledger != nil {
				ledgers["chat"] = test.ledger
			}
			r := &PodReconciler{Clock: clocktesting.NewFakePassiveClock(seatNow), Seats: &SeatAllocator{Queue: NewSeatQueue(), Ledgers: ledgers}}
			r.nodes.synced = func() bool { return true }
			r.nodes.note(test.node, false)
			if seated := r.isSeated(pod, stands); seated != test.seated {
				t.Errorf("it is seated: %t", seated)
			}
			r.observe(pod, stands)
			if holds := len(r.Seats.Queue.unseated("chat", test.ledger)); holds != test.holds {
				t.Errorf("%d pods hold up the licence", holds)
			}
		})
	}
}
