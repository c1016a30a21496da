package main

import (
	"context"
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"modelrights.dev/modelrights/internal/trustedtime"
)

// newClock makes the clock that all who decide on licences go by. It asks the API server for the time before anybody
// decides, and every ten minutes from then on; where that cannot be had, it goes by the machine's until the audit log has its
// first record.
func newClock(ctx context.Context, mgr manager.Manager) (*trustedtime.Clock, error) {
	now, log := trustedtime.New(trustedtime.Machine()), ctrl.Log.WithName("time")
	asker, err := trustedtime.NewAsker(mgr.GetConfig(), mgr.GetScheme(), mgr.GetRESTMapper())
	if err != nil {
		return nil, err
	}
	if err := now.Begin(ctx, mgr.GetAPIReader(), asker); err != nil {
		log.Error(err, "Licences are judged by this machine's clock until the first audit record is written")
	}
	if err := now.Follow(ctx, mgr.GetCache()); err != nil {
		return nil, err
	}
	if err := mgr.Add(&trustedtime.Prober{Clock: now, Asker: asker, Log: log}); err != nil {
		return nil, fmt.Errorf("adding the clock's prober: %w", err)
	}
	if err := now.Register(metrics.Registry); err != nil {
		return nil, fmt.Errorf("adding the clock: %w", err)
	}
	return now, nil
}
