package integration

import (
	"context"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	applyadmissionv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience is the timeoutSeconds of our webhooks in tests: what they answer must not depend on how busy the machine is. The
// tests of package admissionconfig say which they have in clusters.
const patience = 15

// addressed writes webhook configurations with the address where the webhooks answer in tests, instead of the Service,
// which the API server has no way to there, and with patience; and reads them as they were meant.
type addressed struct {
	client.Client
	at string

	mu       sync.Mutex
	timeouts map[string]*int32 // of webhooks, by name
}

func (a *addressed) Apply(ctx context.Context, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	switch o := object.(type) {
	case *applyadmissionv1.MutatingWebhookConfigurationApplyConfiguration:
		for i := range o.Webhooks {
			w := &o.Webhooks[i]
			a.address(*w.Name, w.ClientConfig, &w.TimeoutSeconds)
		}
	case *applyadmissionv1.ValidatingWebhookConfigurationApplyConfiguration:
		for i := range o.Webhooks {
			w := &o.Webhooks[i]
			a.address(*w.Name, w.ClientConfig, &w.TimeoutSeconds)
		}
	}
	return a.Client.Apply(ctx, object, options...)
}

func (a *addressed) address(webhook string, c *applyadmissionv1.WebhookClientConfigApplyConfiguration, timeout **int32) {
	c.URL, c.Service = ptr.To(a.at+*c.Service.Path), nil
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timeouts == nil {
		a.timeouts = map[string]*int32{}
	}
	a.timeouts[webhook], *timeout = *timeout, ptr.To[int32](patience)
}

func (a *addressed) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if err := a.Client.Get(ctx, key, object, options...); err != nil {
		return err
	}
	switch o := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			w := &o.Webhooks[i]
			a.named(w.Name, &w.ClientConfig, &w.TimeoutSeconds)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			w := &o.Webhooks[i]
			a.named(w.Name, &w.ClientConfig, &w.TimeoutSeconds)
		}
	}
	return nil
}

func (a *addressed) named(webhook string, c *admissionregistrationv1.WebhookClientConfig, timeout **int32) {
	path, ok := strings.CutPrefix(ptr.Deref(c.URL, ""), a.at)
	if !ok {
		return
	}
	c.URL, c.Service = nil, &admissionregistrationv1.ServiceReference{
		Namespace: operatorNamespace, Name: "modelrights-webhook", Path: &path, Port: ptr.To[int32](443),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if meant, ok := a.timeouts[webhook]; ok && ptr.Deref(*timeout, 0) == patience {
		*timeout = meant
	}
}
