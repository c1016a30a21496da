package controllers

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// grantOf is a grant of a licence in namespace ml that counts, or not.
func grantOf(name, license string, ready metav1.ConditionStatus) *v1alpha1.ModelGrant {
	g := builders.Grant("ml", name, license).ServiceAccount("llm").Obj()
	g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: ready}}
	return g
}

func TestGrantIndex(t *testing.T) {
	var x grantIndex
	names := func(license string) []string {
		var names []string
		for _, r := range x.requests(license) {
			names = append(names, r.Namespace+"/"+r.Name)
		}
		slices.Sort(names)
		return names
	}
	a, b, c := grantOf("a", "one", "True"), grantOf("b", "one", "True"), grantOf("c", "two", "True")
	for _, g := range []*v1alpha1.ModelGrant{a, b, c} {
		x.note(nil, g)
	}
	x.note(a, a) // a status was written
	if one, two := names("one"), names("two"); !slices.Equal(one, []string{"ml/a", "ml/b"}) || !slices.Equal(two, []string{"ml/c"}) {
		t.Fatalf("one: %v, two: %v", one, two)
	}
	x.note(c, grantOf("c", "one", "True"))
	x.note(a, nil)
	x.note(a, nil)
	if one, two := names("one"), names("two"); !slices.Equal(one, []string{"ml/b", "ml/c"}) || len(two) > 0 {
		t.Errorf("after one has moved and one has gone: one: %v, two: %v", one, two)
	}
	if _, kept := x.byLicense["two"]; kept {
		t.Error("a licence without grants takes room")
	}
}

func TestReadyGrants(t *testing.T) {
	var r readyGrants
	handler := r.handler()
	idle, ready, moved := grantOf("a", "one", "False"), grantOf("a", "one", "True"), grantOf("a", "two", "True")
	steps := []struct {
		name     string
		event    any
		one, two int32
		queued   int
	}{
		{"one that does not count", event.CreateEvent{Object: idle}, 0, 0, 0},
		{"it counts", event.UpdateEvent{ObjectOld: idle, ObjectNew: ready}, 1, 0, 1},
		{"it is the same", event.UpdateEvent{ObjectOld: ready, ObjectNew: ready}, 1, 0, 0},
		{"another", event.CreateEvent{Object: grantOf("b", "one", "True"), IsInInitialList: true}, 2, 0, 1},
		{"the first names another licence", event.UpdateEvent{ObjectOld: ready, ObjectNew: moved}, 1, 1, 2},
		{"it goes", event.DeleteEvent{Object: moved}, 1, 0, 1},
	}
	for _, s := range steps {
		queue := newQueue(t)
		switch e := s.event.(type) {
		case event.CreateEvent:
			handler.Create(t.Context(), e, queue)
		case event.UpdateEvent:
			handler.Update(t.Context(), e, queue)
		case event.DeleteEvent:
			handler.Delete(t.Context(), e, queue)
		}
		if one, two := r.of("one"), r.of("two"); one != s.one || two != s.two || queue.Len() != s.queued {
			t.Errorf("%s: %d of one, %d of two, %d licences queued; want %d, %d, %d", s.name, one, two, queue.Len(), s.one, s.two, s.queued)
		}
	}
}
