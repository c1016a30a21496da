package controllers

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"reflect"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/internal/servingcert"
)

// newCA is a CA of the operator's own authority.
func newCA(t *testing.T) (*x509.Certificate, []byte) {
	t.Helper()
	c := fake.NewClientBuilder().Build()
	policy := servingcert.DefaultPolicy(servingcert.Names{Namespace: "modelrights-system", Services: []string{"modelrights-webhook"}})
	authority := servingcert.NewAuthority(servingcert.AuthorityOptions{
		Policy: policy, Reader: c, Writer: c, Clock: clock.RealClock{},
		Keeper: servingcert.NewKeeper(servingcert.KeeperOptions{Policy: policy, Clock: clock.RealClock{}}),
	})
	if err := authority.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "modelrights-system", Name: servingcert.SecretName}, &secret); err != nil {
		t.Fatal(err)
	}
	bundle := secret.Data[servingcert.CACertKey]
	block, _ := pem.Decode(bundle)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca, bundle
}

// TestCAConsumers: a CA counts as published only when each object that exists and trusts anybody holds it.
func TestCAConsumers(t *testing.T) {
	ca, bundle := newCA(t)
	_, other := newCA(t)
	mutating := func(bundles ...[]byte) client.Object {
		o := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "modelrights-pods"}}
		for _, b := range bundles {
			o.Webhooks = append(o.Webhooks, admissionregistrationv1.MutatingWebhook{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: b}})
		}
		return o
	}
	validating := func(name string, bundles ...[]byte) client.Object {
		o := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, b := range bundles {
			o.Webhooks = append(o.Webhooks, admissionregistrationv1.ValidatingWebhook{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: b}})
		}
		return o
	}
	node := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "modelrights-node"}}
	published := func(text []byte) client.Object {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "modelrights-node", Name: servingcert.BundleName},
			Data:       map[string]string{servingcert.CACertKey: string(text)},
		}
	}
	both := append(append([]byte{}, bundle...), other...)
	for name, test := range map[string]struct {
		objects []client.Object
		want    bool
	}{
		"all":                              {[]client.Object{mutating(both), validating("modelrights-pods", both), validating("modelrights-workloads", bundle), node, published(both)}, true},
		"not the mutating webhook":         {[]client.Object{mutating(other), validating("modelrights-pods", both), node, published(both)}, false},
		"not the validating webhook":       {[]client.Object{mutating(both), validating("modelrights-pods", other), node, published(both)}, false},
		"not the second webhook":           {[]client.Object{mutating(both), validating("modelrights-pods", both, other), node, published(both)}, false},
		"not the webhook of workloads":     {[]client.Object{mutating(both), validating("modelrights-pods", both), validating("modelrights-workloads", other), node, published(both)}, false},
		"a caBundle is empty":              {[]client.Object{mutating(nil), validating("modelrights-pods", both), node, published(both)}, false},
		"not the nodes":                    {[]client.Object{mutating(both), validating("modelrights-pods", both), node, published(other)}, false},
		"the nodes' ConfigMap is missing":  {[]client.Object{mutating(both), validating("modelrights-pods", both), node}, false},
		"there is no node driver":          {[]client.Object{mutating(both), validating("modelrights-pods", both)}, true},
		"configurations without a webhook": {[]client.Object{mutating(), validating("modelrights-pods"), node, published(bundle)}, true},
		"no configurations":                {[]client.Object{node, published(bundle)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			consumers := &CAConsumers{
				Reader:   fake.NewClientBuilder().WithObjects(test.objects...).Build(),
				Mutating: []string{"modelrights-pods"}, Validating: []string{"modelrights-pods", "modelrights-workloads"},
				NodeNamespace: "modelrights-node",
			}
			if got, err := consumers.Trust(t.Context(), ca); err != nil || got != test.want {
				t.Errorf("published: %t, %v", got, err)
			}
		})
	}
	for _, kind := range []client.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}, &corev1.ConfigMap{}, &corev1.Namespace{},
	} {
		reader := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
				if reflect.TypeOf(o) == reflect.TypeOf(kind) {
					return errors.New("the API server is away")
				}
				return c.Get(ctx, key, o, options...)
			},
		}).Build()
		consumers := &CAConsumers{Reader: reader, Mutating: []string{"a"}, Validating: []string{"b"}, NodeNamespace: "n"}
		if got, err := consumers.Trust(t.Context(), ca); err == nil || got {
			t.Errorf("%T cannot be read: published: %t, %v", kind, got, err)
		}
	}
}
