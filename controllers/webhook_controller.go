package controllers

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// WebhookReconciler writes into the webhook configurations where the operator answers. The chart leaves the paths out,
// so that upgrades leave them alone. It runs in every replica, since what it writes is the same.
type WebhookReconciler struct {
	// Client reads the configurations from the cache and updates them.
	Client client.Client
	// Configuration is the name of the mutating and of the validating configuration.
	Configuration string
	// MutatePath and ValidatePath are the paths.
	MutatePath, ValidatePath string

	mutating, validating atomic.Bool
}

// SetupWithManager registers the controller for the two configurations.
func (r *WebhookReconciler) SetupWithManager(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == r.Configuration })
	return ctrl.NewControllerManagedBy(mgr).Named("webhookconfiguration").
		For(&admissionregistrationv1.ValidatingWebhookConfiguration{}).
		Watches(&admissionregistrationv1.MutatingWebhookConfiguration{}, &handler.EnqueueRequestForObject{}).
		WithEventFilter(ours).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)}).
		Complete(r)
}

// Ready is a readiness check: it fails until both configurations have their paths.
func (r *WebhookReconciler) Ready(*http.Request) error {
	if !r.mutating.Load() || !r.validating.Load() {
		return fmt.Errorf("the webhook configurations %s do not have their paths yet", r.Configuration)
	}
	return nil
}

// Reconcile writes the paths where they are not as they should be.
func (r *WebhookReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	if err := r.Client.Get(ctx, req.NamespacedName, &mutating); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	} else if err == nil {
		clients := make([]*admissionregistrationv1.WebhookClientConfig, len(mutating.Webhooks))
		for i := range mutating.Webhooks {
			clients[i] = &mutating.Webhooks[i].ClientConfig
		}
		if err := r.write(ctx, &mutating, clients, r.MutatePath); err != nil {
			return ctrl.Result{}, err
		}
		r.mutating.Store(true)
	}
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	if err := r.Client.Get(ctx, req.NamespacedName, &validating); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	} else if err == nil {
		clients := make([]*admissionregistrationv1.WebhookClientConfig, len(validating.Webhooks))
		for i := range validating.Webhooks {
			clients[i] = &validating.Webhooks[i].ClientConfig
		}
		if err := r.write(ctx, &validating, clients, r.ValidatePath); err != nil {
			return ctrl.Result{}, err
		}
		r.validating.Store(true)
	}
	return ctrl.Result{}, nil
}

func (r *WebhookReconciler) write(ctx context.Context, configuration client.Object, clients []*admissionregistrationv1.WebhookClientConfig, path string) error {
	changed := false
	for _, c := range clients {
		if c.Service != nil && ptr.Deref(c.Service.Path, "") != path {
			c.Service.Path = &path
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if err := r.Client.Update(ctx, configuration, client.FieldOwner(fieldOwner)); err != nil {
		return fmt.Errorf("writing the path into %T %s: %w", configuration, configuration.GetName(), err)
	}
	return nil
}
