package controllers

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/internal/servingcert"
)

// CAReconciler publishes the CAs of the serving certificate to the node driver's namespace, where the driver mounts them:
// so the driver needs no permission in the API. Where somebody else fills the Secret, it also carries former CAs over,
// in a ConfigMap of the operator's namespace.
type CAReconciler struct {
	// Client reads the Secret and the ConfigMaps from the cache, and applies the ConfigMaps.
	Client client.Client
	// NodeNamespace is the node driver's.
	NodeNamespace string
	// Policy is that of the certificates. It names the operator's namespace.
	Policy servingcert.Policy
	// External says that somebody else fills the Secret.
	External bool
	// Clock says when a CA that is carried over is let go.
	Clock clock.PassiveClock
}

func (r *CAReconciler) namespace() string { return r.Policy.Names.Namespace }

// SetupWithManager registers the controller for the one Secret, and for the ConfigMaps, which it puts right when somebody
// changes or deletes them.
func (r *CAReconciler) SetupWithManager(mgr ctrl.Manager) error {
	secret := client.ObjectKey{Namespace: r.namespace(), Name: servingcert.SecretName}
	isSecret := predicate.NewPredicateFuncs(func(o client.Object) bool { return client.ObjectKeyFromObject(o) == secret })
	isBundle := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetName() == servingcert.BundleName && (o.GetNamespace() == r.NodeNamespace || o.GetNamespace() == r.namespace())
	})
	return ctrl.NewControllerManagedBy(mgr).Named("ca").
		For(&corev1.Secret{}, builder.WithPredicates(isSecret)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: secret}}
		}), builder.WithPredicates(isBundle)).
		Complete(r)
}

// Reconcile applies the ConfigMaps whenever the Secret has a CA.
func (r *CAReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var secret corev1.Secret
	if err := r.Client.Get(ctx, req.NamespacedName, &secret); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	bundle, result := string(servingcert.Bundle(secret.Data[servingcert.CACertKey])), ctrl.Result{}
	if r.External {
		carried, err := r.carryOver(ctx, secret.Data[servingcert.CACertKey], &result)
		if err != nil {
			return ctrl.Result{}, err
		}
		bundle = carried
	}
	if bundle == "" {
		return result, nil
	}
	return result, r.publish(ctx, r.NodeNamespace, map[string]string{servingcert.CACertKey: bundle})
}

// carryOver keeps the ConfigMap in the operator's namespace and returns its bundle.
func (r *CAReconciler) carryOver(ctx context.Context, current []byte, result *ctrl.Result) (string, error) {
	published, err := r.published(ctx, r.namespace())
	if err != nil {
		return "", err
	}
	now := r.Clock.Now()
	data, next, err := servingcert.CarryOver(published, current, r.Policy, now)
	if err != nil || len(data) == 0 {
		return "", err
	}
	if !next.IsZero() {
		result.RequeueAfter = next.Sub(now)
	}
	return data[servingcert.CACertKey], r.publish(ctx, r.namespace(), data)
}

func (r *CAReconciler) published(ctx context.Context, namespace string) (map[string]string, error) {
	var published corev1.ConfigMap
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: servingcert.BundleName}, &published)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the CAs published to namespace %s: %w", namespace, err)
	}
	return published.Data, nil
}

func (r *CAReconciler) publish(ctx context.Context, namespace string, data map[string]string) error {
	if published, err := r.published(ctx, namespace); err != nil || maps.Equal(published, data) {
		return err
	}
	bundle := applycorev1.ConfigMap(servingcert.BundleName, namespace).WithData(data)
	if err := r.Client.Apply(ctx, bundle, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("publishing the CAs to namespace %s: %w", namespace, err)
	}
	return nil
}
