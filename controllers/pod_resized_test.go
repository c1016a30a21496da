package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"modelrights.dev/modelrights/test/builders"
)

// TestResizedNow: the kubelet's word that a pod has what it requests is looked at, other words of its are not.
func TestResizedNow(t *testing.T) {
	given := func(cpu string) *corev1.Pod {
		pod := builders.Pod("ml", "llm").Container("main", chatImage).Requests("main", "cpu", "1").Obj()
		if cpu != "" {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "main", AllocatedResources: corev1.ResourceList{"cpu": resource.MustParse(cpu)},
			}}
		}
		return pod
	}
	for name, test := range map[string]struct {
		before, after string
		want          bool
	}{
		"taken back":         {"2", "1", true},
		"still has more":     {"3", "2", false},
		"has what it asks":   {"1", "1", false},
		"starts":             {"", "1", false},
		"is trimmed by then": {"2", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isResizedNow(event.UpdateEvent{ObjectOld: given(test.before), ObjectNew: given(test.after)}); got != test.want {
				t.Errorf("looked at: %v, want %v", got, test.want)
			}
		})
	}
}
