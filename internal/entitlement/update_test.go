package entitlement

import (
	"slices"
	"strings"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDecideUpdate(t *testing.T) {
	granted := []any{chat().Obj(), code().Obj(), grantOf("acme-chat")}
	both := append([]any{grantOf("acme-code")}, granted...)
	revoked := []any{chat().Obj(), code().Obj()}
	holder := func() *builders.PodBuilder {
		return server().Container("main", chatImage).Container("proxy", "proxy:1").KeyVolume("acme-chat", "main")
	}
	const chatNext = "registry.example.com/models/chat:3"
	tests := map[string]struct {
		old, updated *builders.PodBuilder
		objects      []any
		want         []v1alpha1.Reason // uses first, then refusals
		unchanged    bool              // nothing of concern changes
	}{
		"nothing, entitled":                {holder(), holder(), granted, nil, true},
		"nothing, revoked":                 {holder(), holder(), revoked, nil, true},
		"nothing, licence gone":            {holder(), holder(), nil, nil, true},
		"a label and a finalizer, revoked": {holder().Finalizer("example.com/x"), holder().Label("a", "b"), revoked, nil, true},
		"nothing, never entitled":          {server().Container("main", "sha256:0"), server().Container("main", "sha256:0"), granted, nil, true},
		"another tag":                      {holder(), holder().Image("main", chatNext), granted, nil, false},
		"another tag, revoked": {
			holder(), holder().Image("main", chatNext), revoked, []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, false,
		},
		"a shell": {
			holder(), holder().Image("main", "busybox"), granted, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"a shell beside": {
			holder(), holder().Image("proxy", "busybox"), granted, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"a shell beside, licence gone": {
			holder(), holder().Image("proxy", "busybox"), nil, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"the model beside": {holder(), holder().Image("proxy", chatNext), granted, nil, false},
		"an unparsable image": {
			holder(), holder().Image("main", "A B"), granted, []v1alpha1.Reason{v1alpha1.ReasonUnparsableImage, v1alpha1.ReasonImageSwapped}, false,
		},
		"an init container": {
			server().InitContainer("fetch", chatImage).Container("main", "busybox").KeyVolume("acme-chat", "fetch"),
			server().InitContainer("fetch", "busybox").Container("main", "busybox").KeyVolume("acme-chat", "fetch"),
			granted, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"another held licence's image under this key": {
			holder().Container("code", codeImage).KeyVolume("acme-code", "code"),
			holder().Container("code", codeImage).KeyVolume("acme-code", "code").Image("main", codeImage),
			both, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"a granted licence's image whose key is not held": {
			holder(), holder().Image("main", codeImage), both, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"the server of an image volume": {
			server().Container("main", "server:1").ImageVolume("weights", chatImage, "main").KeyVolume("acme-chat", "main"),
			server().Container("main", "server:2").ImageVolume("weights", chatImage, "main").KeyVolume("acme-chat", "main"),
			granted, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"the volume taken out with the swap": {
			holder(), server().Container("main", "busybox").Container("proxy", "proxy:1"), granted, []v1alpha1.Reason{v1alpha1.ReasonImageSwapped}, false,
		},
		"no key held, a shell": {
			server().Container("main", chatImage), server().Container("main", "busybox"), granted, nil, false,
		},
		"no key held, the model": {
			server().Container("main", "busybox"), server().Container("main", codeImage), granted, []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, false,
		},
		"ephemeral, plain":    {holder(), holder().EphemeralContainer("debug", "busybox"), revoked, nil, false},
		"ephemeral, entitled": {holder(), holder().EphemeralContainer("debug", chatImage), granted, nil, false},
		"ephemeral, revoked": {
			holder(), holder().EphemeralContainer("debug", chatImage), revoked, []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, false,
		},
		"ephemeral, image's ID": {
			holder(), holder().EphemeralContainer("debug", "sha256:0"), granted, []v1alpha1.Reason{v1alpha1.ReasonImageID}, false,
		},
		"ephemeral, mounting the key": {
			holder(), holder().EphemeralContainer("debug", chatImage).Mount("modelrights-acme-chat", "/k", "debug"),
			granted, []v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, false,
		},
		"ephemeral, mounting the key, revoked": {
			holder(), holder().EphemeralContainer("debug", "busybox").Mount("modelrights-acme-chat", "/k", "debug"),
			revoked, []v1alpha1.Reason{v1alpha1.ReasonNoGrant}, false,
		},
		"ephemeral beside an earlier one": {
			holder().EphemeralContainer("old", "sha256:0").Mount("modelrights-acme-chat", "/k", "old"),
			holder().EphemeralContainer("old", "sha256:0").Mount("modelrights-acme-chat", "/k", "old").EphemeralContainer("debug", "busybox"),
			revoked, nil, false,
		},
		"a mount in a container that does not use it": {
			holder(), holder().Mount("modelrights-acme-chat", "/k", "proxy"), granted, []v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, false,
		},
		"a key volume": {
			server().Container("main", "busybox"), server().Container("main", "busybox").KeyVolume("acme-chat", "main"),
			granted, []v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			old, updated := podOf(test.old), podOf(test.updated)
			uses, refusals := DecideUpdate(updated, old.Spec, snapshot(t, test.objects...), now)
			var got []v1alpha1.Reason
			for _, u := range uses.Refused() {
				got = append(got, u.Reason)
			}
			got = append(got, reasonsOf(refusals)...)
			if !slices.Equal(got, test.want) {
				t.Errorf("refused %v (%+v), want %v", got, refusals, test.want)
			}
			if changes := ChangesAnything(old.Spec, updated.Spec); changes == test.unchanged {
				t.Errorf("changes anything: %t", changes)
			}
			for _, r := range refusals {
				if r.Message == "" || r.Remedy == "" || !strings.HasPrefix(r.Field, "spec.") {
					t.Errorf("refusal %+v is not explained", r)
				}
			}
		})
	}
}
