package controllers

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
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
