package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

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

// SetupWithManager registers the controller for the one Secret.
func (r *CAReconciler) SetupWithManager(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == r.Namespace && o.GetName() == servingcert.SecretName
	})
	return ctrl.NewControllerManagedBy(mgr).Named("ca").For(&corev1.Secret{}).WithEventFilter(ours).Complete(r)
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
	bundle := applycorev1.ConfigMap(CABundleName, r.NodeNamespace).WithData(map[string]string{servingcert.CACertKey: string(ca)})
	if err := r.Client.Apply(ctx, bundle, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return ctrl.Result{}, fmt.Errorf("publishing the CA to namespace %s: %w", r.NodeNamespace, err)
	}
	return ctrl.Result{}, nil
}
