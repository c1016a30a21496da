package main

import (
	"context"
	"fmt"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// readiness gathers what must be in place before a replica takes requests.
type readiness struct {
	names  []string
	checks []healthz.Checker
}

func (r *readiness) add(name string, check healthz.Checker) {
	r.names, r.checks = append(r.names, name), append(r.checks, check)
}

// addSync adds, in every replica, that wait has returned: something has read all that it is to know.
func (r *readiness) addSync(mgr manager.Manager, name string, wait func(context.Context) error) error {
	synced := make(chan struct{})
	r.add(name, func(*http.Request) error {
		select {
		case <-synced:
			return nil
		default:
			return fmt.Errorf("%s is not done yet", name)
		}
	})
	return mgr.Add(everyReplica(func(ctx context.Context) error {
		if err := wait(ctx); err != nil {
			return err
		}
		close(synced)
		return nil
	}))
}

func (r *readiness) register(mgr manager.Manager) error {
	for i, check := range r.checks {
		if err := mgr.AddReadyzCheck(r.names[i], check); err != nil {
			return err
		}
	}
	return nil
}

// everyReplica is a runnable that runs in every replica, leader or not.
type everyReplica func(context.Context) error

// Start runs it.
func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection is false.
func (everyReplica) NeedLeaderElection() bool { return false }
