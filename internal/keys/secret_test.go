package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

const operatorNamespace = "modelrights-system"

func keySecret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name}, Data: map[string][]byte{}}
	for entry, value := range data {
		s.Data[entry] = []byte(value)
	}
	return s
}

func TestSecretSource(t *testing.T) {
	const marker = "MARKERMARKERMARKER"
	identity := newHybridIdentity(t)
	elsewhere := keySecret("acme-elsewhere", map[string]string{"key": identity})
	elsewhere.Namespace = "ml-prod"
	reader := fake.NewClientBuilder().WithObjects(
		keySecret("acme-good", map[string]string{"key": "# comment\n" + identity, "other": marker}),
		keySecret("acme-empty", map[string]string{"key": ""}),
		keySecret("acme-invalid", map[string]string{"key": "AGE-SECRET-KEY-1" + marker}),
		keySecret("acme-renamed", map[string]string{"identity": identity}),
		elsewhere,
	).Build()
	license := builders.License("acme").Repository("registry.example.com/m").
		Key("good").Key("empty").Key("invalid").Key("renamed").Key("elsewhere").Key("missing").
		KeySecret("entry", "acme-renamed", "identity").KeySecret("defaulted", "acme-good", "").Obj()

	tests := map[string]struct {
		keyName string
		reason  v1alpha1.Reason
		says    string
	}{
		"found":             {keyName: "good"},
		"entry named":       {keyName: "entry"},
		"entry defaulted":   {keyName: "defaulted"},
		"empty":             {keyName: "empty", reason: v1alpha1.ReasonKeyEmpty, says: "modelrights-system/acme-empty"},
		"invalid":           {keyName: "invalid", reason: v1alpha1.ReasonKeyInvalid, says: "modelrights-system/acme-invalid"},
		"entry missing":     {keyName: "renamed", reason: v1alpha1.ReasonKeySecretMissing, says: "has no entry key"},
		"Secret missing":    {keyName: "missing", reason: v1alpha1.ReasonKeySecretMissing, says: "modelrights-system/acme-missing does not exist"},
		"another namespace": {keyName: "elsewhere", reason: v1alpha1.ReasonKeySecretMissing, says: "does not exist"},
		"no such key":       {keyName: "v9", reason: v1alpha1.ReasonNoKey, says: "licence acme"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := NewSecretSource(reader, operatorNamespace).Fetch(t.Context(), license, tc.keyName)
			if tc.reason == "" {
				if err != nil || string(m.Bytes()) != identity+"\n" {
					t.Fatalf("got %d bytes and error %v, want the identity", len(m.Bytes()), err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Reason != tc.reason {
				t.Fatalf("error %v, want reason %s", err, tc.reason)
			}
			if !strings.Contains(err.Error(), tc.says) || e.Remedy == "" || e.Temporary() {
				t.Errorf("error %q (temporary %v) must say %q and what to do", err, e.Temporary(), tc.says)
			}
			if strings.Contains(fmt.Sprintf("%+v %#v", err, e), marker) {
				t.Errorf("the error holds what the Secret does: %v", err)
			}
			if len(m.Bytes()) != 0 {
				t.Error("a key came with the error")
			}
		})
	}
}

func TestSecretSourceFailing(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "acme-v1", errors.New("no RBAC"))
	reader := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return forbidden
		},
	}).Build()
	_, err := NewSecretSource(reader, operatorNamespace).Fetch(t.Context(), builders.License("acme").Key("v1").Obj(), "v1")
	var e *Error
	if !errors.As(err, &e) || e.Reason != v1alpha1.ReasonKeyUnavailable || !e.Temporary() {
		t.Fatalf("error %v, want a temporary KeyUnavailable", err)
	}
	if !errors.Is(err, forbidden) {
		t.Error("the cause is lost")
	}
}

func TestFetchAll(t *testing.T) {
	v1, v2 := newIdentity(t), newHybridIdentity(t)
	reader := fake.NewClientBuilder().WithObjects(
		keySecret("acme-v1", map[string]string{"key": v1}),
		keySecret("acme-v2", map[string]string{"key": v2}),
	).Build()
	source := NewSecretSource(reader, operatorNamespace)
	license := builders.License("acme").Key("v2").Key("v1").Key("gone").Obj()

	tests := map[string]struct {
		names  []string
		want   string
		reason v1alpha1.Reason
	}{
		"one":                     {names: []string{"v2"}, want: v2 + "\n"},
		"in order of name":        {names: []string{"v2", "v1"}, want: v1 + "\n" + v2 + "\n"},
		"each once":               {names: []string{"v1", "v1"}, want: v1 + "\n"},
		"none":                    {reason: v1alpha1.ReasonNoKey},
		"all or nothing":          {names: []string{"v1", "gone"}, reason: v1alpha1.ReasonKeySecretMissing},
		"a name that is no key's": {names: []string{"v1", "v9"}, reason: v1alpha1.ReasonNoKey},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := FetchAll(t.Context(), source, license, tc.names)
			if string(m.Bytes()) != tc.want {
				t.Errorf("got %d bytes that are not the keys wanted", len(m.Bytes()))
			}
			var e *Error
			if (err != nil) != (tc.reason != "") || err != nil && (!errors.As(err, &e) || e.Reason != tc.reason) {
				t.Errorf("error %v, want reason %q", err, tc.reason)
			}
		})
	}
}
