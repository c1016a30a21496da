package prefilter

import (
	"math/rand/v2"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

// TestGatesReachAdmission: whoever removes the scheduling gate of a pod that needs it, or changes what it requests, is sent
// to the webhooks, though the filter asks for neither: that a licence covers an image is enough. Of a pod that no licence
// covers any more, both pass.
func TestGatesReachAdmission(t *testing.T) {
	repositories := []string{"registry.example.com/models/chat", "registry.example.com/vendors/**", "docker.io/acme/chat", "[2001:db8::1]:5000/m"}
	s := &entitlement.Snapshot{}
	for i, repository := range repositories {
		name := string(rune('a' + i))
		s = s.Apply(entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{name: builders.License(name).Repository(repository).Obj()}})
	}
	filter := New(s.Patterns())
	named := []string{
		"registry.example.com/models/chat:2.1", "REGISTRY.example.com:443/models/chat", "registry.example.com/vendors/a/b@sha256:" + hex64, "acme/chat",
		"index.docker.io/acme/chat:1", "[2001:DB8:0::1]:05000/m", "quay.io/acme/web:1", "busybox", "registry.example.com/models/other", "sha256:01ab",
	}
	rng := rand.New(rand.NewPCG(3, 4))
	needing, without := 0, 0
	for range 20_000 {
		b := builders.Pod("ml-prod", "p").Container("main", "quay.io/acme/web:1").Requests("main", "cpu", "1")
		for range 1 + rng.IntN(3) {
			image := named[rng.IntN(len(named))]
			switch rng.IntN(6) {
			case 0:
				b.Container("c", image)
			case 1:
				b.InitContainer("i", image)
			case 2:
				b.ImageVolume("v", image)
			case 3:
				b.Args("main", "oci://"+image)
			case 4:
				b.Command("main", "fetch", "--from=oci+fetch://"+image)
			case 5:
				b.Env("main", "MODEL", "modelcar://"+image)
			}
		}
		ungated := b.Obj()
		gated := b.Gate().Obj()
		resized := b.Requests("main", "cpu", "2").Obj()
		if !entitlement.NeedsGate(entitlement.Pod{Namespace: "ml-prod", Spec: &gated.Spec}, s) {
			without++
			continue
		}
		needing++
		if !filter.Matches(&gated.Spec, nil) || !filter.Matches(&ungated.Spec, &gated.Spec) || !filter.Matches(&resized.Spec, &gated.Spec) {
			t.Fatalf("passes: %+v", gated.Spec)
		}
	}
	if needing < 1000 || without < 1000 {
		t.Errorf("%d pods need a gate and %d do not: too few to tell", needing, without)
	}
}
