package controllers

import (
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestPodsThatAreGoneAreLookedAt: the queue may know a pod that is gone, where somebody told it of one whose end it had heard of
// before. It is the first to have the seat, and can take none: a worker finds out, and the others are planned again.
func TestPodsThatAreGoneAreLookedAt(t *testing.T) {
	s := newScene(t, "1")
	gone := s.pod(1, seatInQueue)
	s.pods = nil // so that the cache does not have it
	s.pod(2, seatInQueue)
	s.rounds(t)
	s.Queue.touch("chat")
	var looks []string
	again, err := s.round(t.Context(), func(pod types.NamespacedName, _ bool) { looks = append(looks, pod.Name) })
	if err != nil || !slices.Equal(looks, []string{"llm-1"}) || !slices.Contains(again, "chat") {
		t.Fatalf("looks at %v, and again at %v, %v", looks, again, err)
	}
	s.Queue.drop(PodRef{Namespace: gone.Namespace, Name: gone.Name}) // as the worker does
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-2"}) {
		t.Errorf("then looks at %v", got)
	}
}

// TestStatusHearsOfPodsThatWaitNoMore: who shows how many pods wait is told when one does no more, though that is nothing for
// the allocator to plan.
func TestStatusHearsOfPodsThatWaitNoMore(t *testing.T) {
	s := newScene(t, "1")
	pod := s.pod(1, seatInQueue)
	s.rounds(t)
	var told []int
	s.Queue.Subscribe(func(license string) { told = append(told, len(s.Queue.licenses[license])) })
	s.Queue.put(queuedAs(pod, seatHeld, []seatNeed{{license: s.license, grant: s.grant}}))
	if !slices.Equal(told, []int{1}) || len(s.Queue.Waiting("chat")) != 0 {
		t.Errorf("told %d times, and %v wait", len(told), s.Queue.Waiting("chat"))
	}
	if got := s.Queue.takeChanged(); len(got) > 0 {
		t.Errorf("it is planned again for %v", got)
	}
}

// TestPodsThatGetNoSeatAreToldAfterAll: a pod that was to be told its place when it took its seats is told where it gets none.
func TestPodsThatGetNoSeatAreToldAfterAll(t *testing.T) {
	s := newScene(t, "1")
	pod := s.pod(1, seatInQueue)
	due := verdict{reason: v1alpha1.ReasonWaitingForSeat, message: "first", position: 1}
	s.Queue.owe(pod.UID, due, noon)
	later := noon.Add(time.Minute)
	if got := s.Queue.untold(1, later); len(got) != 1 {
		t.Fatalf("%v are to be told", got)
	}
	if !s.Queue.begin(pod.UID) {
		t.Fatal("it takes no seats")
	}
	s.Queue.release(pod.UID)
	s.Queue.owe(pod.UID, due, noon)
	if got := s.Queue.untold(1, later); len(got) != 1 {
		t.Error("it is never told")
	}
}
