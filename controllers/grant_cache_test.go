package controllers

import (
	"encoding/json"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestTrimGrant(t *testing.T) {
	decoded := func() *v1alpha1.ModelGrant {
		full := builders.Grant("ml", "chat", "acme-chat-7b").ServiceAccount("web", "llm").PodSelector(map[string]string{"app": "chat"}).Obj()
		full.UID, full.ResourceVersion, full.Generation, full.Labels = "u1", "7", 3, map[string]string{"team": "ml"}
		full.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}
		full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		full.Status = v1alpha1.ModelGrantStatus{ObservedGeneration: 3, Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", Message: "may be used"}}}
		text, err := json.Marshal(full)
		if err != nil {
			t.Fatal(err)
		}
		read := &v1alpha1.ModelGrant{}
		if err := json.Unmarshal(text, read); err != nil {
			t.Fatal(err)
		}
		return read
	}
	want := decoded()
	want.Annotations, want.ManagedFields = nil, nil
	var trimmed [2]*v1alpha1.ModelGrant
	for i := range trimmed {
		kept, err := TrimGrant(decoded())
		if err != nil {
			t.Fatal(err)
		}
		trimmed[i] = kept.(*v1alpha1.ModelGrant)
		if !reflect.DeepEqual(trimmed[i], want) {
			t.Errorf("kept %+v, want %+v", trimmed[i], want)
		}
	}
	if a, b := trimmed[0], trimmed[1]; &a.Status.Conditions[0] != &b.Status.Conditions[0] || &a.Spec.Subjects[0] != &b.Spec.Subjects[0] || a.Spec.PodSelector != b.Spec.PodSelector {
		t.Error("two grants have a copy each of what they say alike")
	}
}
