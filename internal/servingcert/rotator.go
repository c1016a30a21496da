package servingcert

import (
	"fmt"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Names are what the certificate is for.
type Names struct {
	// Namespace is the operator's namespace.
	Namespace string
	// Services are the Services of the operator, in its namespace, that serve with the certificate. At least one.
	Services []string
	// WebhookConfigurations are the names of the mutating and validating configurations that get the CA.
	WebhookConfigurations []string
}

// AddRotator makes the operator its own CA: it generates the CA and the certificate once, renews them before they end,
// and writes the CA into the webhook configurations. Ready is closed when all that is done for the first time. Every
// replica runs it; the Secret's resource version decides who wins.
func AddRotator(mgr manager.Manager, names Names, dir string, ready chan struct{}) error {
	hosts := make([]string, 0, 2*len(names.Services))
	for _, service := range names.Services {
		hosts = append(hosts, fmt.Sprintf("%s.%s.svc", service, names.Namespace), fmt.Sprintf("%s.%s.svc.cluster.local", service, names.Namespace))
	}
	webhooks := make([]rotator.WebhookInfo, 0, 2*len(names.WebhookConfigurations))
	for _, name := range names.WebhookConfigurations {
		webhooks = append(webhooks,
			rotator.WebhookInfo{Name: name, Type: rotator.Mutating},
			rotator.WebhookInfo{Name: name, Type: rotator.Validating})
	}
	r := &rotator.CertRotator{
		CertDir:        dir,
		CAName:         "modelrights-ca",
		CAOrganization: "modelrights",
		DNSName:        hosts[0],
		ExtraDNSNames:  hosts[1:],
		IsReady:        ready,
		Webhooks:       webhooks,
		FieldOwner:     "modelrights-operator",
	}
	r.SecretKey.Namespace, r.SecretKey.Name = names.Namespace, SecretName
	if err := rotator.AddRotator(mgr, r); err != nil {
		return fmt.Errorf("adding the certificate rotator: %w", err)
	}
	return nil
}
