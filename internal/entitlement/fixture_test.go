package entitlement

import (
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

const (
	chatImage = "registry.example.com/models/chat:2.1"
	codeImage = "registry.example.com/models/code:1"
)

// chat is a licence of chatImage with a key.
func chat() *builders.LicenseBuilder {
	return builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v2").Namespaces("ml-prod")
}

// code is a licence of codeImage with a key.
func code() *builders.LicenseBuilder {
	return builders.License("acme-code").Repository("registry.example.com/models/code").Key("v1").Namespaces("ml-prod")
}

// snapshot governs registry.example.com/governed/** and holds licences and grants.
func snapshot(t testing.TB, objects ...any) *Snapshot {
	t.Helper()
	s, err := New([]string{"registry.example.com/governed/**"})
	if err != nil {
		t.Fatal(err)
	}
	changes := Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[GrantKey]*v1alpha1.ModelGrant{}}
	for _, object := range objects {
		switch o := object.(type) {
		case *v1alpha1.ModelLicense:
			changes.Licenses[o.Name] = o
		case *v1alpha1.ModelGrant:
			changes.Grants[GrantKey{o.Namespace, o.Name}] = o
		default:
			t.Fatalf("neither a licence nor a grant: %T", object)
		}
	}
	return s.Apply(changes)
}

// podOf is a pod in ml-prod as a decision sees it.
func podOf(b *builders.PodBuilder) Pod {
	pod := b.Obj()
	return Pod{Namespace: pod.Namespace, Labels: pod.Labels, Spec: &pod.Spec}
}

func server() *builders.PodBuilder { return builders.Pod("ml-prod", "server").ServiceAccount("llm") }

func grantOf(licenseName string) *v1alpha1.ModelGrant {
	return builders.Grant("ml-prod", licenseName+"-grant", licenseName).ServiceAccount("llm").Obj()
}

func reasonsOf(refusals []Refusal) []v1alpha1.Reason {
	var reasons []v1alpha1.Reason
	for _, r := range refusals {
		reasons = append(reasons, r.Reason)
	}
	return reasons
}
