package entitlement

import (
	"slices"
	"strings"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/test/builders"
)

const (
	chatURI = "oci://" + chatImage
	codeURI = "oci://" + codeImage
)

func TestInferredMayRefuse(t *testing.T) {
	granted := []any{chat().Obj(), code().Obj(), grantOf("acme-chat")}
	busybox := func() *builders.PodBuilder { return server().Container("main", "busybox") }
	tests := map[string]struct {
		pod  *builders.PodBuilder
		want []v1alpha1.Reason
		says string
	}{
		"entitled":     {busybox().Args("main", chatURI), nil, ""},
		"not governed": {busybox().Args("main", "oci://ghcr.io/acme/chart:1"), nil, ""},
		"an argument": {
			busybox().Args("main", "--model="+codeURI), []v1alpha1.Reason{v1alpha1.ReasonNoGrant},
			"(inferred from the text of the argument)",
		},
		"a command":           {busybox().Command("main", "sh", "-c", "serve "+codeURI), []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, "of the command)"},
		"a variable":          {busybox().Env("main", "MODEL", codeURI), []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, "of the environment variable)"},
		"an init container":   {busybox().InitContainer("storage-initializer", "kserve").Args("storage-initializer", codeURI, "/mnt/models"), []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, "argument"},
		"a governed registry": {busybox().Args("main", "modelcar://registry.example.com/governed/x"), []v1alpha1.Reason{v1alpha1.ReasonUnlicensed}, "governed repository"},
		"an image's ID":       {busybox().Args("main", "oci://sha256:0123"), []v1alpha1.Reason{v1alpha1.ReasonImageID}, "by its ID"},
		"unresolved":          {busybox().Args("main", codeURI+"${X}"), nil, ""},
		"not a reference":     {busybox().Args("main", "oci://registry.example.com/Models/code"), nil, ""},
		"too many": {
			busybox().Args("main", strings.Repeat(chatURI+" ", 600)+codeURI), []v1alpha1.Reason{v1alpha1.ReasonTooManyReferences}, "more images than are looked at",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			refused := DecidePod(podOf(test.pod), snapshot(t, granted...), now).Refused()
			var got []v1alpha1.Reason
			for _, u := range refused {
				got = append(got, u.Reason)
				if !strings.Contains(u.Message(), test.says) || u.Remedy() == "" || u.Confidence != images.Inferred || u.Field == "" {
					t.Errorf("%s; %s (%+v) does not say %q", u.Message(), u.Remedy(), u.Use, test.says)
				}
				if u.Reason != v1alpha1.ReasonTooManyReferences && !strings.Contains(u.Remedy(), "if the container does not use this image, take its URI out of the") {
					t.Errorf("the remedy %q does not say what to do about a wrong guess", u.Remedy())
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("refused %v, want %v", got, test.want)
			}
			if refused := DecidePod(podOf(test.pod), &Snapshot{}, now).Refused(); len(refused) > 0 {
				t.Errorf("where nothing is governed: refused %v", refused)
			}
		})
	}
}

// TestInferredNeverOpens: a guess may refuse, it never brings a key.
func TestInferredNeverOpens(t *testing.T) {
	s := snapshot(t, chat().Obj(), code().Obj(), grantOf("acme-chat"), grantOf("acme-code"))
	pods := map[string]*builders.PodBuilder{
		"argument":       server().Container("main", "busybox").Args("main", chatURI),
		"command":        server().Container("main", "busybox").Command("main", chatURI),
		"variable":       server().Container("main", "busybox").Env("main", "MODEL", chatURI),
		"init container": server().InitContainer("main", "busybox").Args("main", chatURI).Container("server", "busybox"),
	}
	for name, b := range pods {
		t.Run(name, func(t *testing.T) {
			licenses := DecidePod(podOf(b), s, now).Licenses()
			if len(licenses) != 1 || licenses[0].License.Name != "acme-chat" || !slices.Equal(licenses[0].Images, []string{chatImage}) {
				t.Fatalf("uses %+v", licenses)
			}
			if u := licenses[0]; len(u.Containers) > 0 || len(u.KeyNames) > 0 {
				t.Errorf("the key goes to %v: %v", u.Containers, u.KeyNames)
			}
			for _, volume := range []*builders.PodBuilder{b.KeyVolume("acme-chat"), b.Mount("modelrights-acme-chat", "/k", "main")} {
				if got := reasonsOf(DecideKeyVolumes(podOf(volume), s, now)); !slices.Contains(got, v1alpha1.ReasonModelNotReferenced) {
					t.Errorf("a key volume written by hand is refused with %v", got)
				}
			}
			added, refusals := DecideUpdate(podOf(b), &server().Container("main", "busybox").Obj().Spec, s, now)
			if got := reasonsOf(refusals); !slices.Contains(got, v1alpha1.ReasonModelNotReferenced) {
				t.Errorf("a key volume that an update brings is refused with %v (%v)", got, added)
			}
		})
	}
	// What is inferred gives a container nothing, even beside another that uses the licence.
	beside := server().Container("main", chatImage).Container("shell", "busybox").Args("shell", chatURI)
	if u := DecidePod(podOf(beside), s, now).Licenses()[0]; !slices.Equal(u.Containers, []string{"main"}) {
		t.Errorf("the key goes to %v", u.Containers)
	}
	// Whoever makes a use by hand, and gives it containers, opens nothing with it either.
	forged := PodDecision{{
		Use:      images.Use{Kind: images.UseArgument, Confidence: images.Inferred, Image: chatImage, Containers: []string{"main"}},
		Decision: Decide(Request{Image: chatImage, Namespace: "ml-prod", ServiceAccount: "llm"}, s, now),
	}}
	if u := forged.Licenses()[0]; len(u.Containers)+len(u.KeyNames) > 0 {
		t.Errorf("a forged use opens %+v", u)
	}
}

func TestInferredDoesNotLoosenSwaps(t *testing.T) {
	s := snapshot(t, chat().Obj(), code().Obj(), grantOf("acme-chat"), grantOf("acme-code"))
	holder := func() *builders.PodBuilder {
		return server().Container("main", chatImage).Container("code", codeImage).Args("main", chatURI, codeURI).
			KeyVolume("acme-chat", "main").KeyVolume("acme-code", "code")
	}
	tests := map[string]struct {
		updated *builders.PodBuilder
		want    []v1alpha1.Reason
	}{
		"a shell that names the model":                {holder().Image("main", "busybox"), []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}},
		"another held licence's image under this key": {holder().Image("main", codeImage), []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}},
		"the next version":                            {holder().Image("main", "registry.example.com/models/chat:3"), nil},
		"another argument":                            {holder().Args("main", chatURI, codeURI, "oci://quay.io/a/b"), nil},
		"an argument of what is not licensed": {
			holder().Args("main", chatURI, codeURI, "oci://registry.example.com/governed/x"), []v1alpha1.Reason{v1alpha1.ReasonUnlicensed},
		},
		"an ephemeral container's argument": {holder().EphemeralContainer("debug", "busybox").Args("debug", "oci://quay.io/a/b"), nil},
		"an ephemeral container's argument of what is not licensed": {
			holder().EphemeralContainer("debug", "busybox").Command("debug", "oci://registry.example.com/governed/x"), []v1alpha1.Reason{v1alpha1.ReasonUnlicensed},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			uses, refusals := DecideUpdate(podOf(test.updated), podOf(holder()).Spec, s, now)
			var got []v1alpha1.Reason
			for _, u := range uses.Refused() {
				got = append(got, u.Reason)
			}
			if got = append(got, reasonsOf(refusals)...); !slices.Equal(got, test.want) {
				t.Errorf("refused %v, want %v", got, test.want)
			}
		})
	}
}

// A pod that was there with more texts than are looked at can still be changed in everything but these.
func TestExcessOnUpdate(t *testing.T) {
	excessive := func() *builders.PodBuilder {
		return server().Container("main", "busybox").Args("main", strings.Repeat(chatURI+" ", 600))
	}
	old := podOf(excessive()).Spec
	if ChangesAnything(old, podOf(excessive().Finalizer("example.com/x")).Spec) {
		t.Error("a finalizer changes what is decided")
	}
	added := podOf(excessive().EphemeralContainer("debug", "busybox").Args("debug", codeURI))
	s := snapshot(t, chat().Obj(), code().Obj(), grantOf("acme-chat"))
	uses, _ := DecideUpdate(added, old, s, now)
	if refused := uses.Refused(); len(refused) != 1 || refused[0].Reason != v1alpha1.ReasonTooManyReferences {
		t.Errorf("behind the excess, an ephemeral container passes unseen: %+v", refused)
	}
}

// A pod from the cache has lost its texts: what is declared is decided all the same.
func TestWithoutTexts(t *testing.T) {
	s := snapshot(t, chat().Obj(), grantOf("acme-chat"))
	b := server().Container("main", chatImage)
	if d := DecidePod(podOf(b), s, now); len(d) != 1 || !d[0].Entitled() {
		t.Errorf("decided %+v", d)
	}
}
