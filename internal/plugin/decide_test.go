package plugin

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/plugin/view"
	"modelrights.dev/modelrights/internal/workloads"
	"modelrights.dev/modelrights/test/builders"
)

// TestExplainIsTheOperatorsDecision: on every place of a pod, and of a template of the same pods, what is explained is what
// the webhooks decide.
func TestExplainIsTheOperatorsDecision(t *testing.T) {
	seen, err := view.Read(t.Context(), newWorld().reader(t), view.Request{Namespaces: []string{"ml-prod", "ml-dev"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"ml-prod", "ml-dev"} {
		for _, account := range []string{"llm-server", "other", ""} {
			pod := builders.Pod(namespace, "p").ServiceAccount(account).
				InitContainer("init", chatImage).Container("main", "envoy:1").Container("second", "registry.example.com/models/new:1").
				Container("third", "sha256:abc").Container("fourth", "example.com/UPPER").
				Env("main", "MODEL", "oci://"+chatImage).ImageVolume("weights", "registry.example.com/models/labelled:1", "main").Obj()
			decided := entitlement.DecidePod(entitlement.Pod{
				Namespace: namespace, NamespaceLabels: seen.NamespaceLabels(namespace), Labels: pod.Labels, Spec: &pod.Spec,
			}, seen.Snapshot, now)

			template := map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "d", "namespace": namespace}}
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
			if err != nil {
				t.Fatal(err)
			}
			template["spec"] = map[string]any{"template": map[string]any{"metadata": map[string]any{}, "spec": content["spec"]}}
			for form, object := range map[string]map[string]any{"Pod": content, "Deployment": template} {
				subjects, err := subjectsOf(object, Origin{}, workloads.Default(), "unused", true)
				if err != nil || len(subjects) != 1 {
					t.Fatalf("%s: %d subjects, error %v", form, len(subjects), err)
				}
				explained := map[string]entitlement.Decision{}
				for _, r := range explain(subjects[0], seen, now).References {
					explained[r.Place+" "+r.Name+" "+r.Image] = r.Decision
				}
				if len(explained) != len(decided) {
					t.Errorf("%s: %d places are explained, %d decided on", form, len(explained), len(decided))
				}
				for _, d := range decided {
					e, ok := explained[string(d.Kind)+" "+d.Name+" "+d.Image]
					if !ok || e.Reason != d.Reason || nameOf(e.License) != nameOf(d.License) || nameOf(e.Grant) != nameOf(d.Grant) {
						t.Errorf("%s in %s as %q: %s %q is explained as %s, and decided as %s", form, namespace, account, d.Kind, d.Image, e.Reason, d.Reason)
					}
				}
			}
		}
	}
}

func nameOf[T interface {
	client.Object
	comparable
}](o T) string {
	var none T
	if o == none {
		return ""
	}
	return o.GetName()
}

// TestPodsFromAnywhere: the same pod names the same images, as an object of its own and in a template.
func TestPodsFromAnywhere(t *testing.T) {
	pod := builders.Pod("n", "p").Container("c", "a:${TAG}").EphemeralContainer("e", "b:1").Obj()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		t.Fatal(err)
	}
	for live, want := range map[bool]images.Confidence{true: images.Declared, false: images.Unresolved} {
		subjects, err := subjectsOf(content, Origin{}, workloads.Default(), "", live)
		if err != nil || len(subjects) != 1 || len(subjects[0].places) != 2 {
			t.Fatalf("live %t: %v, %v", live, subjects, err)
		}
		if got := subjects[0].places[0].Confidence; got != want {
			t.Errorf("live %t: a placeholder is %s, want %s", live, got, want)
		}
	}
}
