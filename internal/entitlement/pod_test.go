package entitlement

import (
	"slices"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDecidePod(t *testing.T) {
	s := snapshot(t, chat().Obj(), code().Obj(), grantOf("acme-chat"))
	pod := podOf(server().
		InitContainer("fetch", chatImage).Container("main", codeImage).Container("proxy", "proxy:1").
		EphemeralContainer("debug", "sha256:0").ImageVolume("weights", chatImage, "proxy"))
	want := []v1alpha1.Reason{
		v1alpha1.ReasonEntitled, v1alpha1.ReasonEntitled, v1alpha1.ReasonNoGrant, v1alpha1.ReasonNotGoverned, v1alpha1.ReasonImageID,
	}
	decided := DecidePod(pod, s, now)
	var got []v1alpha1.Reason
	for _, d := range decided {
		got = append(got, d.Reason)
	}
	if !slices.Equal(got, want) {
		t.Errorf("decided %v, want %v", got, want)
	}
	if !decided.Governed() || len(decided.Refused()) != 2 {
		t.Errorf("governed %t, refused %v", decided.Governed(), decided.Refused())
	}
	plain := DecidePod(podOf(server().Container("main", "busybox")), s, now)
	if plain.Governed() || len(plain.Refused()) != 0 {
		t.Errorf("a plain pod: %+v", plain)
	}

	under := DecidePodFor(pod, "acme-chat", s, now)
	if len(under) != 2 || under[0].Name != "weights" || under[1].Name != "fetch" {
		t.Errorf("under acme-chat: %+v", under)
	}
	if none := DecidePodFor(pod, "acme-none", s, now); len(none) != 0 {
		t.Errorf("under a licence that does not exist: %+v", none)
	}
}

func TestLicenses(t *testing.T) {
	both := builders.License("acme-both").
		RepositoryWithKey("registry.example.com/both/b", "kb").RepositoryWithKey("registry.example.com/both/a", "ka").Key("ka").Key("kb").Obj()
	s := snapshot(t, chat().Obj(), both, grantOf("acme-chat"), grantOf("acme-both"))
	decided := DecidePod(podOf(server().
		Container("z", "registry.example.com/both/b").Container("y", "registry.example.com/both/a").Container("x", chatImage).
		Container("idle", "busybox").InitContainer("a", "registry.example.com/both/b").
		EphemeralContainer("debug", chatImage).
		ImageVolume("weights", chatImage, "z", "debug").ImageVolume("unmounted", chatImage)), s, now)
	got := decided.Licenses()
	if len(got) != 2 || got[0].License.Name != "acme-both" || got[1].License.Name != "acme-chat" {
		t.Fatalf("licences: %+v", got)
	}
	if want := []string{"ka", "kb"}; !slices.Equal(got[0].KeyNames, want) {
		t.Errorf("keys %v, want %v", got[0].KeyNames, want)
	}
	if want := []string{"a", "y", "z"}; !slices.Equal(got[0].Containers, want) {
		t.Errorf("containers of acme-both %v, want %v", got[0].Containers, want)
	}
	if want := []string{"x", "z"}; !slices.Equal(got[1].Containers, want) {
		t.Errorf("containers of acme-chat %v, want %v", got[1].Containers, want)
	}
	if want := []string{chatImage}; !slices.Equal(got[1].Images, want) {
		t.Errorf("images of acme-chat %v, want %v", got[1].Images, want)
	}
	if got[1].Grant.Name != "acme-chat-grant" {
		t.Errorf("grant %s", got[1].Grant.Name)
	}
}
