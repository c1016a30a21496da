package limit

import (
	"context"
	"testing"
	"time"

	"github.com/onsi/gomega"
)

func TestSlots(t *testing.T) {
	s := NewSlots[string](2, 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	enter := func(key string, want bool) func() {
		t.Helper()
		leave, ok := s.Enter(ended, key)
		if ok != want {
			t.Fatalf("let in: %v, want %v", ok, want)
		}
		return leave
	}
	first, second := enter("a", true), enter("a", true)
	enter("a", false)
	other := enter("b", true)
	first()
	third := enter("a", true)
	enter("a", false)
	for _, leave := range []func(){second, third, other} {
		leave()
	}
	if s.Len() != 0 {
		t.Errorf("%d keys are held when all have left", s.Len())
	}
}

func TestSlotsWaiting(t *testing.T) {
	s := NewSlots[string](1, 1)
	leave, _ := s.Enter(t.Context(), "a")
	in := make(chan func())
	go func() {
		leave, ok := s.Enter(t.Context(), "a")
		if !ok {
			t.Error("who waits is not let in")
		}
		in <- leave
	}()
	gomega.NewWithT(t).Eventually(func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.held["a"].users
	}).WithTimeout(time.Minute).Should(gomega.Equal(2))
	if _, ok := s.Enter(t.Context(), "a"); ok {
		t.Error("more wait than may")
	}
	leave()
	(<-in)()
	if s.Len() != 0 {
		t.Errorf("%d keys are held when all have left", s.Len())
	}
}
