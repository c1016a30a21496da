package controllers

import (
	"context"
	"crypto/x509"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/servingcert"
)

// CAConsumers are the objects by which the CA reaches those who must trust it: the API server, by the webhook
// configurations, and the node driver, by the ConfigMap.
type CAConsumers struct {
	// Reader reads them, live: what a cache has not seen yet would count as published too late, or too early.
	Reader client.Reader
	// Mutating and Validating are the names of webhook configurations. Those that do not exist, or name no webhook, trust
	// nobody and are not waited for.
	Mutating, Validating []string
	// NodeNamespace is the node driver's. Without it there is no node driver to wait for.
	NodeNamespace string
}

// Trust says whether all of them hold the CA.
func (c *CAConsumers) Trust(ctx context.Context, ca *x509.Certificate) (bool, error) {
	for _, name := range c.Mutating {
		var configuration admissionregistrationv1.MutatingWebhookConfiguration
		if err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &configuration); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading the mutating webhook configuration %s: %w", name, err)
		}
		for i := range configuration.Webhooks {
			if !servingcert.Trusts(configuration.Webhooks[i].ClientConfig.CABundle, ca) {
				return false, nil
			}
		}
	}
	for _, name := range c.Validating {
		var configuration admissionregistrationv1.ValidatingWebhookConfiguration
		if err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &configuration); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading the validating webhook configuration %s: %w", name, err)
		}
		for i := range configuration.Webhooks {
			if !servingcert.Trusts(configuration.Webhooks[i].ClientConfig.CABundle, ca) {
				return false, nil
			}
		}
	}
	return c.nodesTrust(ctx, ca)
}

// nodesTrust says whether the ConfigMap of the node driver's namespace holds the CA, or there is no such namespace.
func (c *CAConsumers) nodesTrust(ctx context.Context, ca *x509.Certificate) (bool, error) {
	var bundle corev1.ConfigMap
	err := c.Reader.Get(ctx, client.ObjectKey{Namespace: c.NodeNamespace, Name: servingcert.BundleName}, &bundle)
	if err == nil {
		return servingcert.Trusts([]byte(bundle.Data[servingcert.CACertKey]), ca), nil
	}
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading the CAs published to namespace %s: %w", c.NodeNamespace, err)
	}
	err = c.Reader.Get(ctx, client.ObjectKey{Name: c.NodeNamespace}, &corev1.Namespace{})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading the namespace %s: %w", c.NodeNamespace, err)
	}
	return err != nil, nil
}
