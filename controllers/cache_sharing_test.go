package controllers

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestSharedSlices(t *testing.T) {
	var s sharedSlices[corev1.Container]
	containers := func(image string) []corev1.Container {
		return []corev1.Container{{Name: "a", Image: image, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}, {Name: "b"}}
	}
	x, y, z := s.one(containers("x")), s.one(containers("x")), s.one(containers("z"))
	if &x[0] != &y[0] || len(y) != 2 {
		t.Error("two slices that say the same are two copies")
	}
	if &x[0] == &z[0] || z[0].Image != "z" {
		t.Errorf("another slice became %+v", z)
	}
	if cap(append(y, corev1.Container{})) == cap(y) {
		t.Error("there is room behind a slice that is shared, into which somebody might append")
	}
	if got := s.one(nil); got != nil {
		t.Errorf("no slice became %v", got)
	}
	runtime.KeepAlive(x)
}

func TestSharedSlicesForget(t *testing.T) {
	var s sharedSlices[corev1.PodCondition]
	size := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.known)
	}
	kept := s.one([]corev1.PodCondition{{Message: "kept"}})
	for i := range 1000 {
		s.one([]corev1.PodCondition{{Message: fmt.Sprint(i)}})
	}
	for deadline := time.Now().Add(time.Minute); size() > 1; runtime.Gosched() {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d slices are remembered, of which one is in use", size())
		}
	}
	if again := s.one([]corev1.PodCondition{{Message: "kept"}}); &again[0] != &kept[0] {
		t.Error("one that is in use was forgotten")
	}
}

func TestSharedMaps(t *testing.T) {
	s := newSharedMaps[map[string]string]()
	first, second := map[string]string{"app": "chat", "team": "ml"}, map[string]string{"team": "ml", "app": "chat"}
	x, y, z := s.one(first), s.one(second), s.one(map[string]string{"app": "chat"})
	x["probe"] = "1"
	if y["probe"] != "1" {
		t.Error("two maps that say the same are two copies")
	}
	if len(first) != 2 || !maps.Equal(z, map[string]string{"app": "chat"}) {
		t.Errorf("others became %v and %v", first, z)
	}
	if got := s.one(map[string]string{}); got != nil {
		t.Errorf("no map became %v", got)
	}
	if names := slices.Sorted(maps.Keys(y)); !slices.Equal(names, []string{"app", "probe", "team"}) {
		t.Errorf("keys %v", names)
	}
}
