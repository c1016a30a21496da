package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// TestStartNeedsTheSeatsThatWereTaken: a pod that has its seat of one licence, and that another one entitles before its gate
// is removed, does not run without a seat of that.
func TestStartNeedsTheSeatsThatWereTaken(t *testing.T) {
	for name, earlier := range map[string]bool{"nothing changed": false, "an earlier licence": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			s.rounds(t)
			api := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(pod.DeepCopy()).WithStatusSubresource(&corev1.Pod{}).Build()
			r := &PodReconciler{
				Client: api, Live: api, Rights: s.Rights, Audit: &reportingLog{}, Events: events.NewFakeRecorder(8), Clock: s.Clock, Seats: s.SeatAllocator,
			}
			if earlier {
				l, g := builders.License("acme").Repository("registry.example.com/models/chat").Limits("pods", "1").Obj(), chatGrant()
				l.UID, l.Generation = "l-acme", 1
				g.Name, g.UID, g.Spec.LicenseName = "acme", "0b1c2d3e-0000-4000-8000-000000000002", "acme"
				s.held.licenses["acme"] = l
				r.Rights = fixedRights{world{[]*v1alpha1.ModelLicense{l, s.license}, []*v1alpha1.ModelGrant{g, s.grant}}.snapshot(t)}
				s.Rights = r.Rights
			}
			if _, err := r.Reconcile(t.Context(), reconcileRequest(client.ObjectKeyFromObject(pod))); err != nil {
				t.Fatal(err)
			}
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			if isGated(pod) != earlier {
				t.Errorf("gated: %v", isGated(pod))
			}
			if p := s.Queue.byUID[pod.UID]; earlier && (p.state != seatInQueue || p.allocation != nil) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestAllocatorTakesNoSeatForAnotherAmount: a pod that was resized while it had its seat and its gate gives that back.
func TestAllocatorTakesNoSeatForAnotherAmount(t *testing.T) {
	for name, test := range map[string]struct {
		held, wanted string
		back         bool
	}{
		"the same":             {"1", "1", false},
		"more":                 {"1", "100", true},
		"a fraction of a byte": {"1", "999m", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			amount := func(memory string) corev1.ResourceList {
				return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
			}
			take := seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Amount: amount(test.held), Generation: 1, Since: noon}
			if _, err := s.held.Do(t.Context(), "chat", take); err != nil {
				t.Fatal(err)
			}
			s.Queue.put(queuedAs(pod, seatInQueue, []seatNeed{{license: s.license, grant: s.grant, amount: amount(test.wanted)}}))
			s.rounds(t)
			if p := s.Queue.byUID[pod.UID]; p.partial != test.back {
				t.Errorf("gives back: %v", p.partial)
			}
		})
	}
}

// TestAllocatorGoesByTheLicencesLimits: those that somebody wrote into the ledger by hand count for nothing.
func TestAllocatorGoesByTheLicencesLimits(t *testing.T) {
	s := newScene(t, "1")
	forged := s.license.DeepCopy()
	forged.Spec.Terms.Limits[corev1.ResourcePods] = resource.MustParse("9")
	s.held.ledgers["chat"] = seats.Empty(forged)
	for n := range 3 {
		s.pod(n, seatInQueue)
	}
	s.rounds(t)
	if n := s.held.Ledger("chat").Len(); n != 1 {
		t.Errorf("%d seats", n)
	}
}

// TestTakeSendsTheLicencesLimits: nor do they where they were written after the cache was read.
func TestTakeSendsTheLicencesLimits(t *testing.T) {
	s := newScene(t, "1")
	a, b := s.pod(1, seatInQueue), s.pod(2, seatInQueue)
	s.rounds(t)
	forged := s.license.DeepCopy()
	forged.Spec.Terms.Limits[corev1.ResourcePods] = resource.MustParse("9")
	s.held.ledgers["chat"].Apply(seats.Limit{License: forged})
	scene := &allocScene{now: noon, licenses: map[string]*v1alpha1.ModelLicense{"chat": s.license}}
	late := &taker{queuedPod: *s.Queue.byUID[b.UID]}
	if err := s.takeIn(t.Context(), scene, "chat", []*taker{late}); err != nil {
		t.Fatal(err)
	}
	if n := s.held.Ledger("chat").Len(); n != 1 || !late.failed {
		t.Errorf("%d seats besides that of %s", n, a.Name)
	}
}
