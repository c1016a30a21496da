package controllers

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Indexes of the cache, by the field that they follow.
const (
	// indexLicenseSecret finds licences by the Secrets of their keys.
	indexLicenseSecret = "spec.keys.secretRef.name"
	// indexLicensePullSecret finds licences by the Secrets with which their registries are read.
	indexLicensePullSecret = "spec.pullSecretRef.name"
)

// indexer is an index function for one kind.
func indexer[T client.Object](values func(T) []string) client.IndexerFunc {
	return func(o client.Object) []string {
		object, ok := o.(T)
		if !ok {
			return nil
		}
		return values(object)
	}
}

// licensesBy lists the licences that an index finds by a value, to be reconciled.
func licensesBy(ctx context.Context, c client.Reader, index, value string) []reconcile.Request {
	var licenses v1alpha1.ModelLicenseList
	if err := c.List(ctx, &licenses, client.MatchingFields{index: value}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the licences that a change concerns", "index", index, "value", value)
		return nil
	}
	requests := make([]reconcile.Request, 0, len(licenses.Items))
	for i := range licenses.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&licenses.Items[i])})
	}
	return requests
}
