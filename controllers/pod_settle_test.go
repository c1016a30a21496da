package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// reportingLog is a log that reports too.
type reportingLog struct{ recordingLog }

func (l *reportingLog) Report(ctx context.Context, e audit.Entry) (audit.Fate, error) {
	_, err := l.Append(ctx, e)
	return audit.Written, err
}

// TestSettleOrder: the condition, by which nothing is logged again, is set once the entries are durable, and not before.
func TestSettleOrder(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		world world
		want  audit.Type
	}{
		"found":    {world{[]*v1alpha1.ModelLicense{chatLicense()}, nil}, audit.Found},
		"admitted": {world{[]*v1alpha1.ModelLicense{chatLicense()}, []*v1alpha1.ModelGrant{chatGrant()}}, audit.Admitted},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(chatImage)
			api := fake.NewClientBuilder().WithObjects(pod).WithStatusSubresource(&corev1.Pod{}).Build()
			recorder := events.NewFakeRecorder(8)
			log := &reportingLog{recordingLog{err: broken}}
			r := &PodReconciler{Client: api, Audit: log, Events: recorder, Clock: testingclock.NewFakePassiveClock(noon), Seats: noSeats()}
			try := func() error {
				t.Helper()
				if err := api.Get(t.Context(), PodRef{Namespace: "ml", Name: "llm-0"}, pod); err != nil {
					t.Fatal(err)
				}
				return r.settle(t.Context(), pod, test.world.standIn(t, pod))
			}
			if err := try(); !errors.Is(err, broken) || conditionOf(pod, v1alpha1.PodConditionLicensed) != nil || len(recorder.Events) > 0 {
				t.Errorf("%v, condition %+v", err, conditionOf(pod, v1alpha1.PodConditionLicensed))
			}
			log.err = nil
			for range 2 {
				if err := try(); err != nil {
					t.Error(err)
				}
			}
			if got := fmt.Sprint(log.types()); got != fmt.Sprintf("[%s]", test.want) {
				t.Errorf("logged %s", got)
			}
			if len(recorder.Events) == 0 {
				t.Error("nobody is told")
			}
		})
	}
}

// TestEvictionIsLoggedAtLast: an eviction that has happened and could not be logged is logged later, when the pod is gone.
func TestEvictionIsLoggedAtLast(t *testing.T) {
	log := &reportingLog{recordingLog{err: errors.New("broken")}}
	r := compared(t, world{})
	r.Audit, r.Tracker, r.Client = log, &CopyTracker{}, fake.NewClientBuilder().Build()
	gone := PodRef{Namespace: "ml", Name: "llm-0"}
	r.evictor.owes(gone, []audit.Entry{{Type: audit.CopyEvicted}})
	for _, logged := range []int{0, 1, 1} {
		_, err := r.Reconcile(t.Context(), reconcileRequest(gone))
		if (err != nil) != (logged == 0) || len(log.entries) != logged {
			t.Errorf("%v, %d entries, want %d", err, len(log.entries), logged)
		}
		log.err = nil
	}
}

func reconcileRequest(name PodRef) reconcile.Request { return reconcile.Request{NamespacedName: name} }
