package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// applyGrantSeats writes the part of a grant's status that says what is in use, by server-side apply, whatever else the
// status holds. It is an error where the grant is gone, or is another one of the same name by now.
func applyGrantSeats(ctx context.Context, c client.Client, grant *v1alpha1.ModelGrant, inUse *v1alpha1.SeatStatus, usage *v1alpha1.UsageStatus) error {
	part := v1alpha1.ModelGrantStatus{Seats: inUse, Usage: usage}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&part)
	if err != nil {
		return fmt.Errorf("encoding the seats of grant %s/%s: %w", grant.Namespace, grant.Name, err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "ModelGrant",
		"metadata":   map[string]any{"namespace": grant.Namespace, "name": grant.Name, "uid": string(grant.UID)},
		"status":     fields,
	}}
	err = c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(ownerSeats), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("writing the seats of grant %s/%s: %w", grant.Namespace, grant.Name, err)
	}
	return nil
}
