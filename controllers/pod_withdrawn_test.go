package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// seatWorker is a pod controller over the API server of a scene, which has its pods and ledgers.
func (s *scene) seatWorker(t *testing.T) (*PodReconciler, client.Client) {
	t.Helper()
	b := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(s.license.DeepCopy()).WithStatusSubresource(&corev1.Pod{})
	for _, pod := range s.pods {
		b.WithObjects(pod.DeepCopy())
	}
	api := b.WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if stored, ok := o.(*v1alpha1.ModelSeats); ok {
				s.held.ledgers[key.Name].Encode(stored)
				return nil
			}
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	return &PodReconciler{
		Client: api, Live: api, Rights: s.Rights, Clock: s.Clock, Seats: s.SeatAllocator, Audit: &reportingLog{}, Events: events.NewFakeRecorder(99),
	}, api
}

// TestWithdrawnPodsStartAnew: a pod that was not to start, and is to after all before its seats were given back, does not start by
// what was known of them: they may be marked, and to which nodes it is confined is not known of one that was put back.
func TestWithdrawnPodsStartAnew(t *testing.T) {
	for name, released := range map[string]bool{"it had its seats": false, "it was put back": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			s.rounds(t)
			if released {
				s.Queue.release(pod.UID)
			}
			s.Queue.withdraw(pod.UID)
			r, api := s.seatWorker(t)
			if _, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod))); err != nil {
				t.Fatal(err)
			}
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			if p := s.Queue.byUID[pod.UID]; !isGated(pod) || p == nil || p.state != seatInQueue || p.allocation != nil {
				t.Fatalf("gated: %v, in the queue %+v", isGated(pod), p)
			}
			s.rounds(t)
			if p := s.Queue.byUID[pod.UID]; p.allocation == nil || p.allocation.withdrawn || p.allocation.version != "" {
				t.Errorf("then it has %+v", p.allocation)
			}
		})
	}
}

// TestPodsThatWaitAgainStayInTheQueue: a pod that is entitled again while it gives back what it held is put into the queue by who
// goes through all pods, and nobody else looks at it. Another of its name is gone.
func TestPodsThatWaitAgainStayInTheQueue(t *testing.T) {
	s := newScene(t, "1")
	pod := s.pod(1, seatInQueue)
	s.rounds(t)
	queued := queuedAs(pod, seatInQueue, []seatNeed{{license: s.license, grant: s.grant}})
	s.Queue.drop(queued.name) // as where another leader took its seat
	s.Queue.put(queued)
	r, _ := s.seatWorker(t)
	s.Interrupt = func(_ context.Context, step SeatStep, _ types.NamespacedName) error {
		if step == StepAfterGiveBack {
			s.Queue.put(queued)
		}
		return nil
	}
	if done, err := r.leave(t.Context(), pod); err != nil || !done || s.held.Ledger("chat").Len() != 0 {
		t.Fatalf("done: %v, %v, and %d hold seats", done, err, s.held.Ledger("chat").Len())
	}
	if p := s.Queue.byUID[pod.UID]; p == nil || p.state != seatInQueue {
		t.Errorf("it is forgotten: %+v", p)
	}

	s.Interrupt = nil
	later := pod.DeepCopy()
	later.UID = "0b1c2d3e-0000-4000-8000-000000000199"
	if done, err := r.leave(t.Context(), later); err != nil || !done || s.Queue.byUID[pod.UID] != nil {
		t.Errorf("done: %v, %v; a pod that is gone is in the queue: %v", done, err, s.Queue.byUID[pod.UID] != nil)
	}
}
