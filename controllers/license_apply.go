package controllers

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// statusOwner is the field owner of a part of a licence's status. Several controllers write one status, each its own
// part by server-side apply, so that none has to wait for, or undoes, what another writes.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/
type statusOwner string

const (
	// ownerReadiness has observedGeneration, grants, expires and every condition that nobody else has.
	ownerReadiness statusOwner = "modelrights-readiness"
	// ownerImages has images and the condition ImagesResolved.
	ownerImages statusOwner = "modelrights-images"
	// ownerDistribution has distribution.
	ownerDistribution statusOwner = "modelrights-distribution"
	// ownerCopies has the condition CopiesDetected.
	ownerCopies statusOwner = "modelrights-copies"
	// ownerSeats has seats, usage and the condition OverLimit.
	ownerSeats statusOwner = "modelrights-seats"
)

// part is what of a status the owner has.
func (o statusOwner) part(status v1alpha1.ModelLicenseStatus) v1alpha1.ModelLicenseStatus {
	owned := v1alpha1.ModelLicenseStatus{Conditions: slices.DeleteFunc(slices.Clone(status.Conditions), func(c metav1.Condition) bool {
		return conditionOwner(c.Type) != o
	})}
	switch o {
	case ownerReadiness:
		owned.ObservedGeneration, owned.Grants, owned.Expires = status.ObservedGeneration, status.Grants, status.Expires
	case ownerImages:
		owned.Images = status.Images
	case ownerDistribution:
		owned.Distribution = status.Distribution
	case ownerSeats:
		owned.Seats, owned.Usage = status.Seats, status.Usage
	case ownerCopies:
	}
	return owned
}

func conditionOwner(kind string) statusOwner {
	switch kind {
	case v1alpha1.ConditionImagesResolved:
		return ownerImages
	case v1alpha1.ConditionCopiesDetected:
		return ownerCopies
	case v1alpha1.ConditionOverLimit:
		return ownerSeats
	}
	return ownerReadiness
}

// applyLicenseStatus writes the owner's part of a status, whatever else the status holds. It is an error where the
// licence is gone, or is another one of the same name by now. The licence, which is not the cache's own, has the version then.
func applyLicenseStatus(ctx context.Context, c client.Client, license *v1alpha1.ModelLicense, owner statusOwner, status v1alpha1.ModelLicenseStatus) error {
	part := owner.part(status)
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&part)
	if err != nil {
		return fmt.Errorf("encoding the status of licence %s: %w", license.Name, err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "ModelLicense",
		"metadata":   map[string]any{"name": license.Name, "uid": string(license.UID)},
		"status":     fields,
	}}
	err = c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(owner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("writing the status of licence %s: %w", license.Name, err)
	}
	license.ResourceVersion = object.GetResourceVersion()
	return nil
}
