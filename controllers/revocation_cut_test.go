package controllers

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// TestCutPodsAreLookedAtOnce: of a pod with long texts the cache never knows enough. It is read live when something
// changes, and not once a second for as long as it runs.
func TestCutPodsAreLookedAtOnce(t *testing.T) {
	license, grant := chatLicense(), builders.Grant("ml", "g", "chat").ServiceAccount("llm").Obj()
	stored, ledgers := podOnNode(chatImage), heldLedgers{}
	ledgers.holds(t, license, stored, nil)
	cached := stored.DeepCopy()
	cached.Annotations = map[string]string{annotationCut: "true"}
	fakeOf := func(objects ...client.Object) client.Client {
		return fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(objects...).Build()
	}
	rights := fixedRights{world{[]*v1alpha1.ModelLicense{license}, []*v1alpha1.ModelGrant{grant}}.snapshot(t)}
	r := &RevocationReconciler{
		Client: fakeOf(cached), Live: fakeOf(stored, license), Rights: rights, Ledgers: ledgers, Clock: testingclock.NewFakePassiveClock(noon),
	}
	r.reads.rights, r.reads.live, r.reads.clock = r.Rights, r.Live, r.Clock
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(cached)})
	if err != nil || result.RequeueAfter != 0 {
		t.Errorf("looks again after %v, %v", result.RequeueAfter, err)
	}
	if len(r.proceedings.pods) != 0 {
		t.Error("a proceeding goes on about a pod that lost nothing")
	}
}

// TestSurgesAreTimed at the start and when their seats are taken, also where the licence allows none any more: it may have been
// changed between the two.
func TestSurgesAreTimed(t *testing.T) {
	for name, begin := range map[string]func(*RevocationReconciler){
		"at the start": (*RevocationReconciler).timeSurges,
		"when the ledger is written": func(r *RevocationReconciler) {
			r.licenses.saw(builders.License("chat").UID("l-uid").Generation(2).Limits("pods", "1").Obj())
			r.ledgerWritten("chat")
		},
	} {
		t.Run(name, func(t *testing.T) { testSurgesAreTimed(t, begin) })
	}
}

func testSurgesAreTimed(t *testing.T, begin func(*RevocationReconciler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		license := builders.License("chat").UID("l-uid").Generation(1).Limits("pods", "1").Surge(1, 10*time.Minute).Obj()
		old, pod, ledgers := podOnNode(chatImage), podOnNode(chatImage), heldLedgers{}
		old.UID = "00000000-0000-4000-8000-000000000002"
		ledgers.holds(t, license, old, nil)
		ledgers.holds(t, license, pod, func(take *seats.Take) {
			take.Since, take.Surge = now, &seats.SurgeFor{Pods: 1, Period: 10 * time.Minute, Replaces: []types.UID{old.UID}}
		})
		r := &RevocationReconciler{Clock: clock.RealClock{}, Ledgers: ledgers}
		r.times = newRightsTimes(clock.RealClock{}, clock.RealClock{}, nil, nil)
		defer r.times.queue.ShutDown()
		begin(r)
		time.Sleep(10*time.Minute - time.Second) // of the bubble's time
		if synctest.Wait(); r.times.queue.Len() != 0 {
			t.Error("a timer rings too soon")
		}
		time.Sleep(2 * time.Second)
		if synctest.Wait(); r.times.queue.Len() != 1 {
			t.Error("no timer rings")
		}
	})
}
