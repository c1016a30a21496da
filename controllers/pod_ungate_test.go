package controllers

import (
	"encoding/json"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func exists(key string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpExists}
}

// TestConfined: each term of the affinity gets the hosts, none is added or removed, and one that no node meets stays so.
func TestConfined(t *testing.T) {
	host := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}}
	term := func(requirements ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: requirements}
	}
	fields := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}}}
	confinedFields := *fields.DeepCopy()
	confinedFields.MatchExpressions = []corev1.NodeSelectorRequirement{host}
	for name, test := range map[string]struct{ before, after []corev1.NodeSelectorTerm }{
		"no affinity":     {nil, []corev1.NodeSelectorTerm{term(host)}},
		"terms":           {[]corev1.NodeSelectorTerm{term(exists("gpu")), term(exists("tpu"))}, []corev1.NodeSelectorTerm{term(exists("gpu"), host), term(exists("tpu"), host)}},
		"a term of names": {[]corev1.NodeSelectorTerm{fields}, []corev1.NodeSelectorTerm{confinedFields}},
		"an empty term":   {[]corev1.NodeSelectorTerm{term(), term(exists("gpu"))}, []corev1.NodeSelectorTerm{term(), term(exists("gpu"), host)}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(chatImage)
			if test.before != nil {
				pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: test.before},
				}}
			}
			if got := confined(pod, [][]string{{"a", "b"}}).NodeSelectorTerms; !reflect.DeepEqual(got, test.after) {
				t.Errorf("%+v, want %+v", got, test.after)
			}
		})
	}
}

// TestUngatePatch: it removes our gate alone, and is for the pod as it was read.
func TestUngatePatch(t *testing.T) {
	pod := builders.Pod("ml", "llm").UID("u").Gate("example.com/other").Gate().Obj()
	pod.ResourceVersion = "7"
	patch, err := ungatePatch(pod, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata struct{ UID, ResourceVersion string }
		Spec     map[string]any
	}
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"schedulingGates": []any{map[string]any{"name": "example.com/other"}}}
	if got.Metadata.UID != "u" || got.Metadata.ResourceVersion != "7" || !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("patch %s", patch)
	}
}

func TestRolloutOf(t *testing.T) {
	for name, test := range map[string]struct {
		pod             *builders.PodBuilder
		owner, revision string
	}{
		"no owner":     {builders.Pod("ml", "p"), "", ""},
		"deployment":   {builders.Pod("ml", "p").Owner("apps/v1", "ReplicaSet", "llm-abc", "r").Label("pod-template-hash", "abc"), "ml/Deployment/llm", "r"},
		"replica set":  {builders.Pod("ml", "p").Owner("apps/v1", "ReplicaSet", "llm", "r"), "ml/r", ""},
		"stateful set": {builders.Pod("ml", "p").Owner("apps/v1", "StatefulSet", "llm", "s").Label("controller-revision-hash", "llm-1"), "ml/s", "llm-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if owner, revision := rolloutOf(test.pod.Obj()); owner != test.owner || revision != test.revision {
				t.Errorf("%q %q, want %q %q", owner, revision, test.owner, test.revision)
			}
		})
	}
}

// TestGates: ours is told from others'.
func TestGates(t *testing.T) {
	for name, test := range map[string]struct {
		gates        []string
		ours, others bool
	}{
		"none": {nil, false, false}, "ours": {[]string{v1alpha1.SeatGate}, true, false},
		"both": {[]string{v1alpha1.SeatGate, "a/b"}, true, true}, "another's": {[]string{"a/b"}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(chatImage)
			for _, gate := range test.gates {
				pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: gate})
			}
			if isGated(pod) != test.ours || hasOtherGates(pod) != test.others {
				t.Errorf("ours %v, others %v", isGated(pod), hasOtherGates(pod))
			}
		})
	}
}
