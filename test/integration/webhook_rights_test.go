package integration

import (
	"context"
	"errors"
	"sync"

	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/rights"
)

// steeredRights are the real store's, but can be made stale or unable to read.
type steeredRights struct {
	*rights.Store
	mu          sync.Mutex
	frozen      *entitlement.Snapshot
	unreachable bool
	forgetful   int
}

// forget makes memory know nothing when it is asked next, as the mutating webhook does first.
func (s *steeredRights) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetful = 1
}

// freeze makes memory stay as it is; thaw makes it follow the API server again, which can then be reached again too.
func (s *steeredRights) freeze(unreachable bool) {
	now, _ := s.Store.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.unreachable = now, unreachable
}

func (s *steeredRights) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.unreachable = nil, false
}

func (s *steeredRights) Snapshot() (*entitlement.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgetful > 0 {
		s.forgetful--
		return &entitlement.Snapshot{}, true
	}
	if s.frozen != nil {
		return s.frozen, true
	}
	return s.Store.Snapshot()
}

func (s *steeredRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	s.mu.Lock()
	unreachable := s.unreachable
	s.mu.Unlock()
	if unreachable {
		return nil, errors.New("the API server cannot be reached")
	}
	return s.Store.Live(ctx, namespace)
}
