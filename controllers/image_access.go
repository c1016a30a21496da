package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/registry"
)

// pullSecretError says why a licence's pull Secret cannot be used. It holds nothing of the Secret.
type pullSecretError struct{ text string }

func (e *pullSecretError) Error() string { return e.text }

// imageAccess is what may be contacted for a licence: its own hosts, with the credentials that its pull Secret has for
// them. Other credentials of the Secret are not looked at. The error is a *pullSecretError where the Secret is at fault.
func imageAccess(ctx context.Context, live client.Reader, namespace string, license *v1alpha1.ModelLicense) (*registry.Access, error) {
	hosts := registryHosts(&license.Spec)
	ref := license.Spec.PullSecretRef
	if ref == nil {
		return registry.NewAccess(hosts, nil)
	}
	where := fmt.Sprintf("Secret %s/%s of spec.pullSecretRef", namespace, ref.Name)
	var secret corev1.Secret
	err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &pullSecretError{where + " does not exist: create it"}
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", where, err)
	case secret.Type != corev1.SecretTypeDockerConfigJson:
		return nil, &pullSecretError{fmt.Sprintf("%s is not of type %s: create it anew", where, corev1.SecretTypeDockerConfigJson)}
	}
	config := secret.Data[corev1.DockerConfigJsonKey]
	if len(config) == 0 {
		return nil, &pullSecretError{fmt.Sprintf("%s has no entry %s", where, corev1.DockerConfigJsonKey)}
	}
	access, err := registry.NewAccess(hosts, config)
	switch {
	case errors.Is(err, registry.ErrNoCredentials):
		return nil, &pullSecretError{fmt.Sprintf("%s has credentials for none of the hosts that the licence names: %s", where, strings.Join(hosts, ", "))}
	case err != nil:
		return nil, &pullSecretError{where + ": " + err.Error()}
	}
	return access, nil
}
