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
)

// holdersOf are pods that hold seats.
type holdersOf map[types.UID]bool

func (h holdersOf) LicensesOf(pod types.UID) []string {
	if h[pod] {
		return []string{"chat"}
	}
	return nil
}

func seatPodOf(name string, uid types.UID, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, UID: uid}, Spec: corev1.PodSpec{NodeName: node}}
}

func TestSeatPods(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(seatNow)
	holders := holdersOf{"1": true, "2": true}
	pods := NewSeatPods(now, holders)
	told := map[types.UID]int{}
	pods.Subscribe(func(uid types.UID) { told[uid]++ })

	first := seatPodOf("a", "1", "")
	pods.observe(first, false)
	pods.observe(first, false)
	if told["1"] != 1 {
		t.Errorf("told %d times of a pod that came, and did not change", told["1"])
	}
	bound := seatPodOf("a", "1", "n")
	pods.update(first, bound)
	if seen := pods.seen("1"); told["1"] != 2 || !seen.there || seen.node != "n" {
		t.Errorf("a pod that was bound: told %d times, seen %+v", told["1"], seen)
	}

	// The watch was interrupted: the same name, and another pod.
	second := seatPodOf("a", "2", "")
	pods.update(bound, second)
	if seen := pods.seen("1"); told["1"] != 3 || seen.there || !seen.gone || seen.node != "n" || !seen.since.Equal(seatNow) {
		t.Errorf("a pod that is another: told %d times, seen %+v", told["1"], seen)
	}
	if pod, gone := pods.Pod("1"); !gone || pod == nil || pod.Name != "a" || pod.UID != "1" {
		t.Errorf("who it was is not known: %v, %t", pod, gone)
	}
	if seen := pods.seen("2"); !seen.there {
		t.Errorf("the new pod: seen %+v", seen)
	}
	pods.observe(toolscache.DeletedFinalStateUnknown{Key: "ml/a", Obj: second}, true)
	if seen := pods.seen("2"); !seen.gone {
		t.Errorf("deleted while nobody looked: seen %+v", seen)
	}

	// Nobody needs to know of pods that have nothing to do with seats.
	pods.observe(seatPodOf("b", "3", "n"), false)
	pods.observe(seatPodOf("b", "3", "n"), true)
	if _, gone := pods.Pod("3"); gone {
		t.Error("a pod without seats is remembered")
	}
	// Of those that had to do with them it is known for a while, though the ledger is behind.
	decided := seatPodOf("c", "4", "n")
	decided.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed}}
	pods.observe(decided, true)
	if _, gone := pods.Pod("4"); !gone {
		t.Error("a pod that was decided on is forgotten")
	}
	delete(holders, "2")
	now.SetTime(seatNow.Add(rememberGone + time.Second))
	pods.observe(seatPodOf("d", "5", ""), false)
	holders["5"] = true
	pods.observe(seatPodOf("d", "5", ""), true)
	for uid, want := range map[types.UID]bool{"1": true, "2": false, "4": false, "5": true} {
		if _, gone := pods.Pod(uid); gone != want {
			t.Errorf("pod %s is remembered: %t", uid, gone)
		}
	}
}
