package view

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InfoNamespace and InfoName name the ConfigMap in which the installation tells its users what it goes by.
const (
	InfoNamespace = "kube-public"
	InfoName      = "modelrights-info"
)

// Info is what the installation tells its users. It is information alone: the operator takes nothing from it.
type Info struct {
	// Version is that of the installation, and OperatorNamespace where the operator runs.
	Version, OperatorNamespace string
	// GovernedRepositories are governed whether or not a licence covers them, as patterns.
	GovernedRepositories []string
	// ExemptNamespaces are those whose pods the webhooks do not look at.
	ExemptNamespaces []string
}

// ReadInfo reads what the installation tells its users.
func ReadInfo(ctx context.Context, api client.Reader) (*Info, error) {
	var published corev1.ConfigMap
	if err := api.Get(ctx, client.ObjectKey{Namespace: InfoNamespace, Name: InfoName}, &published); err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", InfoNamespace, InfoName, err)
	}
	return &Info{
		Version:              published.Data["version"],
		OperatorNamespace:    published.Data["operatorNamespace"],
		GovernedRepositories: strings.Fields(published.Data["governedRepositories"]),
		ExemptNamespaces:     strings.Fields(published.Data["exemptNamespaces"]),
	}, nil
}
