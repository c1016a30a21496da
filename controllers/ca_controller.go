package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/internal/servingcert"
)

// CABundleName is the ConfigMap in the node driver's namespace whose entry ca.crt the driver trusts.
const CABundleName = "modelrights-ca"

// CAReconciler publishes the CA of the serving certificate to the node driver's namespace, where the driver mounts it:
// so the driver needs no permission in the API.
type CAReconciler struct {
	// Client reads the Secret from the cache and applies the ConfigMap.
	Client client.Client
	// Namespace is the operator's, NodeNamespace the node driver's.
	Namespace, NodeNamespace string
}

// SetupWithManager registers the controller for the one Secret, and for the one ConfigMap, which it puts right when
// somebody changes or deletes it.
func (r *CAReconciler) SetupWithManager(mgr ctrl.Manager) error {
	secret := client.ObjectKey{Namespace: r.Namespace, Name: servingcert.SecretName}
	bundle := client.ObjectKey{Namespace: r.NodeNamespace, Name: CABundleName}
	only := func(key client.ObjectKey) builder.Predicates {
		return builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return client.ObjectKeyFromObject(o) == key
		}))
	}
	return ctrl.NewControllerManagedBy(mgr).Named("ca").
		For(&corev1.Secret{}, only(secret)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: secret}}
		}), only(bundle)).
		Complete(r)
}

// Reconcile applies the ConfigMap whenever the Secret has a CA.
func (r *CAReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var secret corev1.Secret
	if err := r.Client.Get(ctx, req.NamespacedName, &secret); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ca := secret.Data[servingcert.CACertKey]
	if len(ca) == 0 {
		return ctrl.Result{}, nil
	}
	var published corev1.ConfigMap
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.NodeNamespace, Name: CABundleName}, &published); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the published CA: %w", err)
	} else if err == nil && published.Data[servingcert.CACertKey] == string(ca) {
		return ctrl.Result{}, nil
	}
	bundle := applycorev1.ConfigMap(CABundleName, r.NodeNamespace).WithData(map[string]string{servingcert.CACertKey: string(ca)})
	if err := r.Client.Apply(ctx, bundle, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return ctrl.Result{}, fmt.Errorf("publishing the CA to namespace %s: %w", r.NodeNamespace, err)
	}
	return ctrl.Result{}, nil
}
