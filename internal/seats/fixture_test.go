package seats

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const gpu corev1.ResourceName = "nvidia.com/gpu"

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// list is a ResourceList of names and quantities in turn.
func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func license(generation int64, pairs ...string) *v1alpha1.ModelLicense {
	return &v1alpha1.ModelLicense{
		ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: "license-1", Generation: generation},
		Spec:       v1alpha1.ModelLicenseSpec{Terms: v1alpha1.LicenseTerms{Limits: list(pairs...)}},
	}
}

func grantNamed(name string) Grant {
	return Grant{Namespace: "ml", Name: name, UID: types.UID("uid-of-" + name)}
}

var chat = grantNamed("chat")

// uid is a UUID for each number.
func uid(n int) types.UID { return types.UID(fmt.Sprintf("0c0ffee0-0000-4000-8000-%012x", n)) }

func take(pod int, pairs ...string) Take {
	return Take{Pod: uid(pod), Grant: chat, Amount: list(pairs...), Generation: 1, Since: at(0)}
}

// must applies changes and fails where one is refused.
func must(t testing.TB, l *Ledger, changes ...Change) []Result {
	t.Helper()
	results := l.Apply(changes...)
	for i, r := range results {
		if !r.OK() {
			t.Fatalf("%T %+v: %s: %s", changes[i], changes[i], r.Reason, r.Message)
		}
	}
	return results
}

// reason applies a change and fails where another reason comes of it.
func reason(t testing.TB, l *Ledger, want v1alpha1.Reason, change Change) Result {
	t.Helper()
	r := l.Apply(change)[0]
	if r.Reason != want {
		t.Fatalf("%T %+v: reason %q (%s), want %q", change, change, r.Reason, r.Message, want)
	}
	return r
}

// stored encodes a ledger and decodes it again.
func stored(t testing.TB, l *Ledger) *Ledger {
	t.Helper()
	object := &v1alpha1.ModelSeats{}
	l.Encode(object)
	again, err := Decode(object)
	if err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	return again
}
