package controllers

import (
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// TestNoSecondSeat: a pod that runs with a seat of one licence needs none of another that comes to entitle it and is first
// by name, as its own labels may bring about. When it loses the first, it needs one.
func TestNoSecondSeat(t *testing.T) {
	s := newScene(t, "1")
	pod := storedPod(chatImage)
	pod.UID = "0b1c2d3e-0000-4000-8000-000000000101"
	take := seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Generation: 1, Since: noon}
	if _, err := s.held.Do(t.Context(), "chat", take); err != nil {
		t.Fatal(err)
	}
	earlier, grant := builders.License("acme").Repository("registry.example.com/models/chat").Obj(), chatGrant()
	grant.Name, grant.Spec.LicenseName = "acme", "acme"
	r := &PodReconciler{Clock: s.Clock, Seats: s.SeatAllocator}
	for name, test := range map[string]struct {
		grants []*v1alpha1.ModelGrant
		want   string
	}{
		"both entitle":    {[]*v1alpha1.ModelGrant{s.grant, grant}, "chat"},
		"the other alone": {[]*v1alpha1.ModelGrant{grant}, "acme"},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{[]*v1alpha1.ModelLicense{earlier, s.license}, test.grants}
			stands := r.stand(pod, nil, w.snapshot(t))
			if len(stands.admitted) != 1 || stands.admitted[0].use.License.Name != test.want {
				t.Fatalf("admitted %+v", stands.admitted)
			}
			if seated := r.isSeated(pod, stands); seated != (test.want == "chat") {
				t.Errorf("seated: %v", seated)
			}
		})
	}
}
