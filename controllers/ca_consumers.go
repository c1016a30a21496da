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
	// WebhookConfigurations are the names of mutating and validating configurations. Those that do not exist, or name no
	// webhook, trust nobody and are not waited for.
	WebhookConfigurations []string
	// NodeNamespace is the node driver's. Without it there is no node driver to wait for.
	NodeNamespace string
}

// Trust says whether all of them hold the CA.
func (c *CAConsumers) Trust(ctx context.Context, ca *x509.Certificate) (bool, error) {
	for _, name := range c.WebhookConfigurations {
		bundles, err := c.webhookBundles(ctx, name)
		if err != nil {
			return false, err
		}
		for _, bundle := range bundles {
			if !servingcert.Trusts(bundle, ca) {
				return false, nil
			}
		}
	}
	return c.nodesTrust(ctx, ca)
}

// webhookBundles are the caBundles of the mutating and of the validating configuration of that name.
func (c *CAConsumers) webhookBundles(ctx context.Context, name string) ([][]byte, error) {
	var bundles [][]byte
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	if err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &mutating); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the mutating webhook configuration %s: %w", name, err)
	}
	for i := range mutating.Webhooks {
		bundles = append(bundles, mutating.Webhooks[i].ClientConfig.CABundle)
	}
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	if err := c.Reader.Get(ctx, client.ObjectKey{Name: name}, &validating); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the validating webhook configuration %s: %w", name, err)
	}
	for i := range validating.Webhooks {
		bundles = append(bundles, validating.Webhooks[i].ClientConfig.CABundle)
	}
	return bundles, nil
}

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
