package entitlement

import (
	"fmt"
	"slices"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestNewRefusesPatterns(t *testing.T) {
	if _, err := New([]string{"registry.example.com/**", "busybox", "*/x"}); err == nil {
		t.Error("patterns that match nothing are accepted")
	}
}

func TestApply(t *testing.T) {
	request := Request{Image: chatImage, Namespace: "ml-prod", ServiceAccount: "llm"}
	reason := func(s *Snapshot) v1alpha1.Reason { return Decide(request, s, now).Reason }
	step := func(s *Snapshot, c Changes) *Snapshot { return s.Apply(c) }
	license := func(l *v1alpha1.ModelLicense) Changes {
		return Changes{Licenses: map[string]*v1alpha1.ModelLicense{"acme-chat": l}}
	}
	grant := func(g *v1alpha1.ModelGrant) Changes {
		return Changes{Grants: map[GrantKey]*v1alpha1.ModelGrant{{"ml-prod", "chat"}: g}}
	}
	llm := builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Obj()

	empty := snapshot(t)
	steps := []struct {
		name   string
		change Changes
		want   v1alpha1.Reason
	}{
		{"a grant before its licence", grant(llm), v1alpha1.ReasonNotGoverned},
		{"the licence", license(chat().Obj()), v1alpha1.ReasonEntitled},
		{"the licence again", license(chat().Obj()), v1alpha1.ReasonEntitled},
		{"the grant moves to another licence", grant(builders.Grant("ml-prod", "chat", "acme-code").ServiceAccount("llm").Obj()), v1alpha1.ReasonNoGrant},
		{"the grant comes back", grant(llm), v1alpha1.ReasonEntitled},
		{"the licence covers another image", license(builders.License("acme-chat").Repository("registry.example.com/other").Obj()), v1alpha1.ReasonNotGoverned},
		{"the licence covers it again", license(chat().Obj()), v1alpha1.ReasonEntitled},
		{"the grant goes", grant(nil), v1alpha1.ReasonNoGrant},
		{"the grant goes again", grant(nil), v1alpha1.ReasonNoGrant},
		{"the licence goes", license(nil), v1alpha1.ReasonNotGoverned},
		{"nothing", Changes{}, v1alpha1.ReasonNotGoverned},
	}
	s := empty
	type moment struct {
		s    *Snapshot
		want v1alpha1.Reason
	}
	past := []moment{{empty, v1alpha1.ReasonNotGoverned}}
	for _, st := range steps {
		s = step(s, st.change)
		if got := reason(s); got != st.want {
			t.Errorf("after %q: %s, want %s", st.name, got, st.want)
		}
		past = append(past, moment{s, st.want})
	}
	for i, m := range past {
		if got := reason(m.s); got != m.want {
			t.Errorf("the snapshot after step %d changed from %s to %s", i, m.want, got)
		}
	}
}

// TestApplyAtOnce compares indexing everything anew, as many changes do, with indexing step by step.
func TestApplyAtOnce(t *testing.T) {
	all := Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[GrantKey]*v1alpha1.ModelGrant{}}
	grown := snapshot(t)
	for i := range 3 * rebuildAt {
		l := builders.License(fmt.Sprintf("l-%d", i)).Repository(fmt.Sprintf("registry.example.com/m%d/*", i)).Repository("registry.example.com/shared").Obj()
		g := builders.Grant("ml-prod", l.Name, l.Name).ServiceAccount(l.Name).Obj()
		all.Licenses[l.Name], all.Grants[GrantKey{g.Namespace, g.Name}] = l, g
		grown = grown.Apply(Changes{
			Licenses: map[string]*v1alpha1.ModelLicense{l.Name: l}, Grants: map[GrantKey]*v1alpha1.ModelGrant{{g.Namespace, g.Name}: g},
		})
	}
	if all.Len() != 6*rebuildAt {
		t.Fatalf("%d changes", all.Len())
	}
	built := snapshot(t).Apply(all)
	for i := range 3 * rebuildAt {
		for _, image := range []string{fmt.Sprintf("registry.example.com/m%d/a", i), "registry.example.com/shared"} {
			r := Request{Image: image, Namespace: "ml-prod", ServiceAccount: fmt.Sprintf("l-%d", i)}
			a, b := Decide(r, grown, now), Decide(r, built, now)
			if !a.Entitled() || !b.Entitled() || a.License != b.License || a.Grant != b.Grant {
				t.Fatalf("%+v: %s by step, %s at once", r, a.Message(), b.Message())
			}
		}
	}
	if a, b := len(grown.GrantsIn("ml-prod")), len(built.GrantsIn("ml-prod")); a != 3*rebuildAt || a != b {
		t.Errorf("%d and %d grants", a, b)
	}
	if got := built.License("l-7"); got == nil || got.Name != "l-7" || built.License("none") != nil {
		t.Errorf("License: %v", got)
	}
}

func TestGrantsIn(t *testing.T) {
	s := snapshot(t,
		builders.Grant("ml-prod", "c", "b").Obj(), builders.Grant("ml-prod", "a", "b").Obj(), builders.Grant("ml-prod", "z", "a").Obj(),
		builders.Grant("ml-dev", "x", "a").Obj())
	var got []string
	for _, g := range s.GrantsIn("ml-prod") {
		got = append(got, g.Name)
	}
	if want := []string{"z", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("grants %v, want %v", got, want)
	}
}
