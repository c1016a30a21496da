package controllers

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// TestGiveBackTwiceInASecond: an operator that was held up before it gave a seat back does not take the one that the pod has
// taken since, though another operator has marked that as well, and all within a second: the pod was not touched for it,
// and whoever saw the seat before it was marked may remove the gate yet.
func TestGiveBackTwiceInASecond(t *testing.T) {
	s := newScene(t, "1")
	pod := s.pod(1, seatInQueue)
	take := seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Generation: 1, Since: noon}
	do := func() {
		t.Helper()
		if _, err := s.held.Do(t.Context(), "chat", take); err != nil {
			t.Fatal(err)
		}
	}
	do()
	c := fake.NewClientBuilder().WithObjects(pod.DeepCopy()).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if stored, ok := o.(*v1alpha1.ModelSeats); ok {
				s.held.Ledger(key.Name).Encode(stored)
				return nil
			}
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	operator := func(interrupt Interrupt) *PodReconciler {
		allocator := allocatorOf(s.held)
		allocator.Interrupt = interrupt
		return &PodReconciler{Client: c, Live: c, Clock: allocator.Clock, Seats: allocator}
	}
	const times = 20 // two operators may happen to begin alike
	stop, passes := errors.New("killed"), false
	another := operator(func(_ context.Context, step SeatStep, _ types.NamespacedName) error {
		if step == StepAfterMark && !passes {
			return stop
		}
		return nil
	})
	var lost int
	for range times {
		heldUp := operator(func(ctx context.Context, step SeatStep, _ types.NamespacedName) error {
			if step != StepBeforeGiveBack {
				return nil
			}
			passes = true
			if err := another.giveBack(ctx, pod); err != nil {
				t.Errorf("the other gives back: %v", err)
			}
			if s.held.Ledger("chat").Len() != 0 {
				t.Error("the seat is still held")
			}
			do()
			passes = false
			if err := another.giveBack(ctx, pod); !errors.Is(err, stop) {
				t.Errorf("the other marks: %v", err)
			}
			return nil
		})
		if err := heldUp.giveBack(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if s.held.Ledger("chat").Len() == 0 {
			lost++
		}
		if _, err := s.held.Do(t.Context(), "chat", seats.End{Pod: pod.UID, At: noon}); err != nil {
			t.Fatal(err)
		}
		do()
	}
	if lost > 1 {
		t.Errorf("%d of %d times, a seat was given back whose pod was not touched", lost, times)
	}
}

func TestGiveBackMarks(t *testing.T) {
	var marks giveBackMarks
	seen := map[int64]bool{}
	for range markSpread {
		mark := marks.next(noon)
		if mark.Before(noon.Add(giveBackWithin)) || mark.After(noon.Add(giveBackWithin+markSpread*time.Second)) {
			t.Fatalf("a mark of %s", mark)
		}
		seen[mark.Unix()] = true
	}
	if len(seen) != markSpread {
		t.Errorf("%d marks of one second, want %d", len(seen), markSpread)
	}
}
