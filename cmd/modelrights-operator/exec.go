package main

import (
	"context"
	"fmt"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/servingcert"
	"modelrights.dev/modelrights/internal/webhookpath"
	"modelrights.dev/modelrights/webhooks"
)

// addExec serves the webhooks for interactive access to pods that hold a key, and keeps the configuration by which the
// API server is told of them.
func addExec(ctx context.Context, mgr manager.Manager, o options, now clock.PassiveClock, keeper *servingcert.Keeper, store *rights.Store, seats *seatbook.View, log *audit.Log) error {
	secret, err := webhookpath.Ensure(ctx, mgr.GetAPIReader(), mgr.GetClient(), o.namespace)
	if err != nil {
		return err
	}
	err = webhooks.RegisterExec(mgr.GetWebhookServer(), webhooks.ExecOptions{
		PathSecret: secret, Licenses: store, Seats: seats, Pods: mgr.GetCache(), Live: mgr.GetAPIReader(),
		Sessions: webhooks.NewSessionReporter(log, mgr.GetEventRecorder(component)), Clock: now, Metrics: metrics.Registry,
	})
	if err != nil {
		return fmt.Errorf("registering the webhooks for exec: %w", err)
	}
	configuration := &controllers.ExecWebhooks{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Ledgers: seats, Certificates: keeper,
		Settings: admissionconfig.Settings{
			ServiceNamespace: o.namespace, ServiceName: o.webhookService,
			DenyExecPath: webhooks.DenyExecPath(secret), AuditExecPath: webhooks.AuditExecPath(secret),
			ExemptNamespaces: o.exempt(),
		},
	}
	if err := configuration.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the controller of the webhooks for exec: %w", err)
	}
	return nil
}
