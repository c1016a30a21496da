package controllers

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// laggingRights are those of a cache that is behind.
type laggingRights struct {
	fixedRights
	live *entitlement.Snapshot
}

func (r laggingRights) Live(context.Context, string) (*entitlement.Snapshot, error) {
	return r.live, nil
}

// TestRefuseGatedGivesBackFirst: a pod that lost its right gives its seat back before its turn comes to be told, also one that it
// has just taken, but not by what a cache says.
func TestRefuseGatedGivesBackFirst(t *testing.T) {
	for name, test := range map[string]struct{ lost, unseen, released bool }{
		"it lost its right": {lost: true}, "the view is behind": {lost: true, unseen: true}, "the cache is behind": {},
		"the view is behind, and it was put back": {lost: true, unseen: true, released: true},
	} {
		t.Run(name, func(t *testing.T) {
			lost := test.lost
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			s.rounds(t)
			if test.unseen {
				s.Ledgers = laggingView{s.held}
			}
			if test.released {
				s.Queue.release(pod.UID)
			}
			entitled := s.Rights.(fixedRights).snapshot
			none := world{[]*v1alpha1.ModelLicense{s.license}, nil}.snapshot(t)
			rights := laggingRights{fixedRights{none}, none}
			if !lost {
				rights.live = entitled
			}
			r, api := s.seatWorker(t)
			r.Rights = rights
			for i := range 10 * freshBurst {
				r.pace.wait(PodRef{Namespace: pod.Namespace, Name: fmt.Sprint("other-", i)}, noon, pod.CreationTimestamp.Time)
			}
			result, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod)))
			if err != nil || result.RequeueAfter <= 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			if _, holds := s.held.Ledger("chat").Holder(pod.UID); holds == lost {
				t.Errorf("it holds a seat: %v", holds)
			}
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			if c := conditionOf(pod, v1alpha1.PodConditionLicensed); c != nil || !isGated(pod) {
				t.Errorf("it is told before its turn: %+v", c)
			}
			if lost && s.Queue.pods[client.ObjectKeyFromObject(pod)] != nil {
				t.Error("it is still in the queue")
			}
			if lost {
				if again, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod))); err != nil || again.RequeueAfter != result.RequeueAfter {
					t.Errorf("it has another turn: %+v, then %+v, %v", result, again, err)
				}
			}
		})
	}
}

// TestPodsThatTakeSeatsAreNotForgotten: while seats are taken for a pod that is not to start, it stays known: what it gets is
// given back, which nobody would do for a pod that is forgotten.
func TestPodsThatTakeSeatsAreNotForgotten(t *testing.T) {
	for name, w := range map[string]world{
		"refused": {[]*v1alpha1.ModelLicense{chatLicense()}, nil}, "governed no more": {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			if !s.Queue.begin(pod.UID) {
				t.Fatal("it takes no seats")
			}
			api := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(pod.DeepCopy()).Build()
			r := &PodReconciler{Client: api, Live: api, Rights: fixedRights{w.snapshot(t)}, Clock: s.Clock, Seats: s.SeatAllocator}
			result, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod)))
			if err != nil || result.RequeueAfter != retryTaking || s.Queue.byUID[pod.UID] == nil {
				t.Errorf("%+v, %v; in the queue: %v", result, err, s.Queue.byUID[pod.UID] != nil)
			}
		})
	}
}

// TestWithdrawnPodsAreKnownUntilTheyGiveBack: what a pod may hold is not forgotten before it was given back, and it takes no more.
func TestWithdrawnPodsAreKnownUntilTheyGiveBack(t *testing.T) {
	s := newScene(t, "1")
	pod, never := s.pod(1, seatInQueue), s.pod(2, seatInQueue)
	s.rounds(t)
	s.Queue.release(pod.UID)
	for range 2 {
		if took, taking := s.Queue.withdraw(pod.UID); !slices.Contains(took, "chat") || taking {
			t.Errorf("it took %v, and takes seats: %v", took, taking)
		}
	}
	if s.Queue.begin(pod.UID) {
		t.Error("it takes seats again")
	}
	if took, _ := s.Queue.withdraw(never.UID); len(took) > 0 || s.Queue.byUID[never.UID] != nil {
		t.Errorf("one that took none took %v", took)
	}
}
