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
	chatRepository = "registry.example.com/models/chat"
	chatMirror     = "cache.example.com/proxy/chat"
)

// Digests of an index, of its two platforms, of another index, and of something else.
var (
	index, amd64, arm64 = digestOf("1"), digestOf("2"), digestOf("3")
	nextIndex, forged   = digestOf("4"), digestOf("f")
)

func digestOf(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// resolvedChat is a licence of chat, whose tag 2.1 and latest were resolved to an index of two platforms.
func resolvedChat() *builders.LicenseBuilder {
	return chat().Resolved(chatRepository, "2.1", index, amd64, arm64).Resolved(chatRepository, "latest", nextIndex)
}

func TestDecideDigest(t *testing.T) {
	listed := chat().Digests(index)
	resolved := resolvedChat().Digests(index)
	tests := map[string]struct {
		license *builders.LicenseBuilder
		image   string
		want    v1alpha1.Reason
		pinned  string
	}{
		"nothing is asked":                   {chat(), chatImage, v1alpha1.ReasonEntitled, ""},
		"nothing is asked, any digest":       {chat(), chatRepository + "@" + forged, v1alpha1.ReasonEntitled, ""},
		"listed":                             {listed, chatRepository + "@" + index, v1alpha1.ReasonEntitled, ""},
		"listed, with its tag":               {listed, chatImage + "@" + index, v1alpha1.ReasonEntitled, ""},
		"listed, with a tag of another":      {resolved, chatRepository + ":latest@" + index, v1alpha1.ReasonEntitled, ""},
		"forged, with a tag of the licensed": {resolved, chatImage + "@" + forged, v1alpha1.ReasonDigestNotLicensed, ""},
		"forged":                             {listed, chatRepository + "@" + forged, v1alpha1.ReasonDigestNotLicensed, ""},
		"a platform, not resolved":           {listed, chatRepository + "@" + amd64, v1alpha1.ReasonDigestNotLicensed, ""},
		"a platform":                         {resolved, chatRepository + "@" + arm64, v1alpha1.ReasonEntitled, ""},
		"a platform of what is not listed":   {resolvedChat().Digests(nextIndex), chatRepository + "@" + amd64, v1alpha1.ReasonDigestNotLicensed, ""},
		"resolved, and not listed":           {resolved, chatRepository + "@" + nextIndex, v1alpha1.ReasonDigestNotLicensed, ""},
		"another algorithm":                  {listed, chatRepository + "@sha512:" + strings.Repeat("1", 128), v1alpha1.ReasonDigestNotLicensed, ""},
		"an algorithm of no digest":          {listed, chatRepository + "@md5:" + strings.Repeat("1", 32), v1alpha1.ReasonUnparsableImage, ""},
		"a digest in upper case":             {chat().Digests(digestOf("a")), chatRepository + "@" + strings.ToUpper(digestOf("a")[7:]), v1alpha1.ReasonUnparsableImage, ""},
		"a tag that looks like one":          {listed, chatRepository + ":sha256-" + strings.Repeat("1", 64), v1alpha1.ReasonDigestNotPinned, ""},
		"a tag, not resolved":                {listed, chatImage, v1alpha1.ReasonDigestNotPinned, ""},
		"a tag":                              {resolved, chatImage, v1alpha1.ReasonDigestNotPinned, chatImage + "@" + index},
		"a tag of what is not listed":        {resolved, chatRepository + ":latest", v1alpha1.ReasonDigestNotPinned, ""},
		"no tag of what is not listed":       {resolved, chatRepository, v1alpha1.ReasonDigestNotPinned, ""},
		"pinned":                             {resolvedChat().PinDigests(), chatRepository + "@" + forged, v1alpha1.ReasonEntitled, ""},
		"pinned, another algorithm":          {chat().PinDigests(), chatRepository + "@sha512:" + strings.Repeat("1", 128), v1alpha1.ReasonEntitled, ""},
		"pinned, a tag":                      {resolvedChat().PinDigests(), chatImage, v1alpha1.ReasonDigestNotPinned, chatImage + "@" + index},
		"pinned, no tag":                     {resolvedChat().PinDigests(), chatRepository, v1alpha1.ReasonDigestNotPinned, chatRepository + "@" + nextIndex},
		"pinned, an unknown tag":             {resolvedChat().PinDigests(), chatRepository + ":9", v1alpha1.ReasonDigestNotPinned, ""},
		"pinned, odd spelling": {
			resolvedChat().PinDigests(), "REGISTRY.example.com:443/models/chat:2.1", v1alpha1.ReasonDigestNotPinned, "REGISTRY.example.com:443/models/chat:2.1@" + index,
		},
		"a mirror":         {chat().Mirrors(chatMirror), chatMirror + ":2.1", v1alpha1.ReasonEntitled, ""},
		"a mirror, forged": {chat().Mirrors(chatMirror).Digests(index), chatMirror + "@" + forged, v1alpha1.ReasonDigestNotLicensed, ""},
		"a mirror, listed": {chat().Mirrors(chatMirror).Digests(index), chatMirror + "@" + index, v1alpha1.ReasonEntitled, ""},
		"a mirror's tag":   {resolvedChat().Mirrors(chatMirror).PinDigests(), chatMirror + ":2.1", v1alpha1.ReasonDigestNotPinned, chatMirror + ":2.1@" + index},
		"a mirror's pattern": {
			resolvedChat().Mirrors("cache.example.com/**").PinDigests(), "cache.example.com/a/b:2.1", v1alpha1.ReasonDigestNotPinned, "cache.example.com/a/b:2.1@" + index,
		},
		"a second mirror":          {chat().Mirrors("a.example/b", chatMirror), chatMirror, v1alpha1.ReasonEntitled, ""},
		"a mirror that is no more": {chat(), chatMirror, v1alpha1.ReasonNotGoverned, ""},
		"a pattern's repository": {
			builders.License("acme-chat").Repository("registry.example.com/models/*").PinDigests().Resolved(chatRepository, "2.1", index).NamespaceSelector(nil),
			chatImage, v1alpha1.ReasonDigestNotPinned, chatImage + "@" + index,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, test.license.Obj(), grantOf("acme-chat"))
			d := Decide(Request{Image: test.image, Namespace: "ml-prod", ServiceAccount: "llm"}, s, now)
			if d.Reason != test.want || d.Pinned != test.pinned {
				t.Errorf("%s, pinned to %q; want %s and %q", d.Reason, d.Pinned, test.want, test.pinned)
			}
			if test.pinned != "" && !strings.Contains(d.Remedy(), test.pinned) {
				t.Errorf("the remedy %q does not say %s", d.Remedy(), test.pinned)
			}
			if pinned, ok := s.Pin(test.image); pinned != test.pinned || ok != (test.pinned != "") {
				t.Errorf("Pin = %q, %t; want %q", pinned, ok, test.pinned)
			}
		})
	}
}

func TestDigestOutranksNoGrant(t *testing.T) {
	s := snapshot(t, chat().Digests(index).Obj())
	d := Decide(Request{Image: chatImage + "@" + forged, Namespace: "ml-prod", ServiceAccount: "llm"}, s, now)
	if d.Reason != v1alpha1.ReasonDigestNotLicensed || !strings.Contains(d.Message(), "does not list this digest") || !strings.Contains(d.Remedy(), "acme.example") {
		t.Errorf("%s: %s; %s", d.Reason, d.Message(), d.Remedy())
	}
}

func TestDecideGrantAndLicenseAskNoDigest(t *testing.T) {
	l := chat().Digests(index).PinDigests().Obj()
	if v := DecideGrant(grantOf("acme-chat"), l, nil, now); v.Reason != v1alpha1.ReasonReady {
		t.Errorf("the grant: %s", v.Reason)
	}
	if reason, _ := DecideLicense(l, now); reason != v1alpha1.ReasonReady {
		t.Errorf("the licence: %s", reason)
	}
}

func TestPinPod(t *testing.T) {
	// Both licences cover the image, and know different digests of the tag; the second is granted.
	first := builders.License("a-first").Repository(chatRepository).PinDigests().Resolved(chatRepository, "2.1", index).Obj()
	second := builders.License("b-second").Repository(chatRepository).Digests(nextIndex).Resolved(chatRepository, "2.1", nextIndex).Obj()
	pinning := resolvedChat().PinDigests().Obj()
	tests := map[string]struct {
		pod     *builders.PodBuilder
		objects []any
		want    []string // FIELD PINNED
	}{
		"containers of every kind": {
			server().InitContainer("i", chatImage).Container("c", chatImage).EphemeralContainer("e", chatImage).ImageVolume("v", chatRepository),
			[]any{pinning, grantOf("acme-chat")},
			[]string{
				"spec.volumes[0].image.reference " + chatRepository + "@" + nextIndex, "spec.initContainers[0].image " + chatImage + "@" + index,
				"spec.containers[0].image " + chatImage + "@" + index,
			},
		},
		"what is pinned already": {server().Container("c", chatImage+"@"+forged), []any{pinning, grantOf("acme-chat")}, nil},
		"what is only inferred":  {server().Container("c", "busybox").Args("c", "oci://"+chatImage), []any{pinning, grantOf("acme-chat")}, nil},
		"what is not granted":    {server().Container("c", chatImage), []any{pinning}, []string{"spec.containers[0].image " + chatImage + "@" + index}},
		"what is not governed":   {server().Container("c", "busybox"), []any{pinning}, nil},
		"a licence that does not": {
			server().Container("c", chatImage), []any{resolvedChat().Obj(), grantOf("acme-chat")}, nil,
		},
		"entitled by another licence, as it is": {
			server().Container("c", chatImage), []any{first, builders.License("c-third").Repository(chatRepository).Obj(), grantOf("c-third")}, nil,
		},
		"the licence that is granted": {
			server().Container("c", chatImage), []any{first, second, grantOf("b-second")}, []string{"spec.containers[0].image " + chatImage + "@" + nextIndex},
		},
		"none is granted": {
			server().Container("c", chatImage), []any{first, second}, []string{"spec.containers[0].image " + chatImage + "@" + index},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range PinPod(podOf(test.pod), snapshot(t, test.objects...), now) {
				got = append(got, p.Field+" "+p.Pinned)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("pinned %q, want %q", got, test.want)
			}
		})
	}
}

// A mirror is governed, covered and indexed as the repository is, whatever changes.
func TestMirrorsFollowTheLicense(t *testing.T) {
	s := snapshot(t, grantOf("acme-chat"))
	reason := func(image string) v1alpha1.Reason {
		return Decide(Request{Image: image, Namespace: "ml-prod", ServiceAccount: "llm"}, s, now).Reason
	}
	apply := func(l *v1alpha1.ModelLicense) {
		s = s.Apply(Changes{Licenses: map[string]*v1alpha1.ModelLicense{"acme-chat": l}})
	}
	apply(chat().Mirrors(chatMirror, chatRepository).Obj()) // a mirror may even be the repository itself
	if a, b := reason(chatMirror), reason(chatImage); a != v1alpha1.ReasonEntitled || b != a {
		t.Errorf("mirror %s, repository %s", a, b)
	}
	apply(chat().Obj())
	if a, b := reason(chatMirror), reason(chatImage); a != v1alpha1.ReasonNotGoverned || b != v1alpha1.ReasonEntitled {
		t.Errorf("without the mirror: mirror %s, repository %s", a, b)
	}
	apply(nil)
	if a, b := reason(chatMirror), reason(chatImage); a != v1alpha1.ReasonNotGoverned || b != a {
		t.Errorf("without the licence: mirror %s, repository %s", a, b)
	}
}

// FuzzPin: what is pinned is the same repository by a digest that the licence takes.
func FuzzPin(f *testing.F) {
	for _, image := range []string{chatImage, chatRepository, chatMirror + ":2.1", chatImage + "@" + forged, "REGISTRY.example.com:443/models/chat", "busybox", "sha256:0"} {
		f.Add(image)
	}
	f.Fuzz(func(t *testing.T, image string) {
		s := snapshot(t, resolvedChat().Mirrors(chatMirror).Digests(index, nextIndex).Obj(), grantOf("acme-chat"))
		pinned, ok := s.Pin(image)
		if !ok {
			return
		}
		before, err := images.Parse(image)
		if err != nil {
			t.Fatalf("%q does not parse, and is pinned to %q", image, pinned)
		}
		after, err := images.Parse(pinned)
		if err != nil || after.Repository != before.Repository || after.Tag != before.Tag || before.Digest != "" || after.Digest != index && after.Digest != nextIndex {
			t.Fatalf("%q is pinned to %q: %+v, %v", image, pinned, after, err)
		}
		if d := Decide(Request{Image: pinned, Namespace: "ml-prod", ServiceAccount: "llm"}, s, now); !d.Entitled() {
			t.Fatalf("%q is pinned to %q, which is refused: %s", image, pinned, d.Reason)
		}
		if again, ok := s.Pin(pinned); ok {
			t.Fatalf("%q is pinned again to %q", pinned, again)
		}
	})
}
