package chart

import (
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestSamples: the samples are of the API as it is, and fit together.
func TestSamples(t *testing.T) {
	all := kustomize(t, "config/samples")
	license := as[v1alpha1.ModelLicense](t, all, "ModelLicense /acme-chat-7b")
	grant := as[v1alpha1.ModelGrant](t, all, "ModelGrant ml-prod/chat")
	if grant.Spec.LicenseName != license.Name {
		t.Errorf("the grant is of %s, the licence is %s", grant.Spec.LicenseName, license.Name)
	}
	if license.Spec.AllowedNamespaces.Names[0] != grant.Namespace {
		t.Errorf("the licence does not allow %s", grant.Namespace)
	}
}
