package main

import (
	"fmt"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
)

// addRevocation takes keys from running pods that lost their entitlement, and ends them.
func addRevocation(mgr manager.Manager, o options, now clock.PassiveClock, store *rights.Store, view *seatbook.View, log *audit.Log) error {
	counts, err := controllers.NewRevocationMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	reconciler := &controllers.RevocationReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Ledgers: view,
		Audit: log, Events: mgr.GetEventRecorder(component), Clock: now, Timers: clock.RealClock{}, Metrics: counts,
		Protected: o.protected(),
	}
	if err := reconciler.RegisterWaiting(metrics.Registry); err != nil {
		return err
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the revocation controller: %w", err)
	}
	return nil
}
