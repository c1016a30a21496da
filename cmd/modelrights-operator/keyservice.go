package main

import (
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/servingcert"
	"modelrights.dev/modelrights/internal/trustedtime"
)

// addKeyService gives keys to nodes, and decides for how long, on every replica.
func addKeyService(mgr manager.Manager, o options, now *trustedtime.Clock, keeper *servingcert.Keeper, log *audit.Log, source keys.Source, store *rights.Store, keeping seatKeeping, ready *readiness) error {
	contact := keyservice.NewContact(mgr.GetAPIReader(), o.namespace)
	if err := mgr.Add(contact); err != nil {
		return fmt.Errorf("adding the watch on the API server: %w", err)
	}
	server, err := keyservice.NewServer(&keyservice.Releaser{
		Reader:               mgr.GetAPIReader(),
		Tokens:               mgr.GetClient(),
		Source:               source,
		Audit:                log,
		Events:               mgr.GetEventRecorder(component),
		DriverNamespace:      o.nodeNamespace,
		DriverServiceAccount: o.nodeServiceAccount,
		Clock:                now,
		Later:                now.Held,
		Seats:                keeping.book,
		Ledgers:              keeping.view,
		Cached:               mgr.GetClient(),
		Rights:               store,
		InTouch:              contact.InTouch,
	}, keyservice.ServerOptions{
		Address:     fmt.Sprintf(":%d", o.keyServicePort),
		Certificate: keeper.GetCertificate,
		Metrics:     metrics.Registry,
		Log:         ctrl.Log.WithName("keyservice"),
	})
	if err != nil {
		return err
	}
	ready.add("key-service", server.Ready)
	if err := mgr.Add(server); err != nil {
		return fmt.Errorf("adding the key service: %w", err)
	}
	return nil
}
