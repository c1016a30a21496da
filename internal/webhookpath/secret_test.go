package webhookpath

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestEnsure(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	first, err := Ensure(t.Context(), c, c, "modelrights-system")
	if err != nil {
		t.Fatal(err)
	}
	if !wellFormed.MatchString(first) {
		t.Errorf("path %q is not 256 random bits in hexadecimal", first)
	}
	again, err := Ensure(t.Context(), c, c, "modelrights-system")
	if err != nil || again != first {
		t.Errorf("another replica gets %q, %v; want the same path", again, err)
	}
	other, err := Ensure(t.Context(), c, c, "elsewhere")
	if err != nil || other == first {
		t.Errorf("another installation gets %q, %v; want a path of its own", other, err)
	}
}

func TestEnsureRefusesWhatItDidNotMake(t *testing.T) {
	for name, value := range map[string]string{"empty": "", "short": "abc", "a path": "/validate-pods", "upper case": strings.Repeat("AB", 32)} {
		t.Run(name, func(t *testing.T) {
			c := fake.NewClientBuilder().WithObjects(&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "modelrights-system", Name: SecretName},
				Data:       map[string][]byte{entry: []byte(value)},
			}).Build()
			if path, err := Ensure(t.Context(), c, c, "modelrights-system"); err == nil || !strings.Contains(err.Error(), "delete it") {
				t.Errorf("Ensure = %q, %v; want an error with the remedy", path, err)
			}
		})
	}
}
