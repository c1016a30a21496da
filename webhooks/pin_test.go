package webhooks

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

var (
	resolvedDigest = "sha256:" + strings.Repeat("1", 64)
	laterDigest    = "sha256:" + strings.Repeat("2", 64)
)

func pinning() *builders.LicenseBuilder {
	return chat().PinDigests().Resolved("registry.example.com/models/chat", "2.1", resolvedDigest)
}

// admit sends a pod through both webhooks, as the API server does, and returns it as it would be stored.
func admit(t *testing.T, h *hooks, b *builders.PodBuilder) (*corev1.Pod, v1alpha1.Reason) {
	t.Helper()
	req := create(t, b)
	mutated := h.mutate.Handle(context.Background(), req)
	if !mutated.Allowed {
		return nil, reasonOf(t, mutated)
	}
	req.Object.Raw = applyPatch(t, req.Object.Raw, mutated.Patch)
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		t.Fatal(err)
	}
	// The API server asks the mutating webhook again where another one has changed the pod: nothing more must change.
	if again := h.mutate.Handle(context.Background(), req); len(again.Patch) > 0 {
		t.Errorf("mutated again by %s", again.Patch)
	}
	return &pod, reasonOf(t, h.validate.Handle(context.Background(), req))
}

func TestPinning(t *testing.T) {
	h := newHooks(t, knows(t, pinning().Obj(), code().Obj(), grantOf("acme-chat")))
	pod, reason := admit(t, h, server().
		InitContainer("fetch", chatImage).Container("proxy", "busybox").Container("main", chatImage).ImageVolume("weights", chatImage, "proxy"))
	if reason != "" {
		t.Fatalf("denied: %s", reason)
	}
	pinned := chatImage + "@" + resolvedDigest
	for name, got := range map[string]string{
		"init container": pod.Spec.InitContainers[0].Image, "container": pod.Spec.Containers[1].Image, "image volume": pod.Spec.Volumes[0].Image.Reference,
	} {
		if got != pinned {
			t.Errorf("%s has %q, want %q", name, got, pinned)
		}
	}
	if got := pod.Spec.Containers[0].Image; got != "busybox" {
		t.Errorf("another image became %q", got)
	}
	if len(pod.Spec.Volumes) != 2 || len(pod.Spec.Containers[1].VolumeMounts) != 1 {
		t.Errorf("the key did not come: %+v", pod.Spec.Volumes)
	}
}

// TestTagRepointed: the registry answers differently the second time. What runs is what was resolved; what is resolved
// later runs in later pods.
func TestTagRepointed(t *testing.T) {
	rights := knows(t, pinning().Obj(), grantOf("acme-chat"))
	h := newHooks(t, rights)
	before, _ := admit(t, h, server().Container("main", chatImage))
	rights.cached = snapshot(t, chat().PinDigests().Resolved("registry.example.com/models/chat", "2.1", laterDigest).Obj(), grantOf("acme-chat"))
	rights.live = rights.cached
	after, _ := admit(t, h, server().Container("main", chatImage))
	if a, b := before.Spec.Containers[0].Image, after.Spec.Containers[0].Image; a != chatImage+"@"+resolvedDigest || b != chatImage+"@"+laterDigest {
		t.Errorf("first %q, then %q", a, b)
	}
}

func TestPinningRefuses(t *testing.T) {
	listed := chat().Digests(resolvedDigest).Resolved("registry.example.com/models/chat", "2.1", resolvedDigest).Resolved("registry.example.com/models/chat", "next", laterDigest)
	tests := map[string]struct {
		license *builders.LicenseBuilder
		pod     *builders.PodBuilder
		want    v1alpha1.Reason
	}{
		"a tag that is not resolved":    {pinning(), server().Container("main", "registry.example.com/models/chat:9"), v1alpha1.ReasonDigestNotPinned},
		"a tag of what is not licensed": {listed, server().Container("main", "registry.example.com/models/chat:next"), v1alpha1.ReasonDigestNotPinned},
		"a forged digest":               {listed, server().Container("main", chatImage+"@"+laterDigest), v1alpha1.ReasonDigestNotLicensed},
		"a digest of another algorithm": {listed, server().Container("main", chatImage+"@sha512:"+strings.Repeat("1", 128)), v1alpha1.ReasonDigestNotLicensed},
		"an argument":                   {pinning(), server().Container("main", "busybox").Args("main", "oci://"+chatImage), v1alpha1.ReasonDigestNotPinned},
		"the digest, with another tag":  {listed, server().Container("main", "registry.example.com/models/chat:next@"+resolvedDigest), ""},
		"a resolved tag":                {listed, server().Container("main", chatImage), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, knows(t, test.license.Obj(), grantOf("acme-chat")))
			if _, reason := admit(t, h, test.pod); reason != test.want {
				t.Errorf("%q, want %q", reason, test.want)
			}
		})
	}
}

// The validating webhook insists, whatever the mutating one did: nothing completes an ephemeral container or an update.
func TestUnpinnedIsRefusedLater(t *testing.T) {
	h := newHooks(t, knows(t, pinning().Obj(), grantOf("acme-chat")))
	holder := func() *builders.PodBuilder {
		return server().Container("main", chatImage+"@"+resolvedDigest).KeyVolume("acme-chat", "main")
	}
	for subresource, updated := range map[string]*builders.PodBuilder{
		"ephemeralcontainers": holder().EphemeralContainer("debug", chatImage), "": holder().Image("main", chatImage),
	} {
		r := h.validate.Handle(context.Background(), update(t, subresource, holder(), updated))
		if got := reasonOf(t, r); got != v1alpha1.ReasonDigestNotPinned || !strings.Contains(r.Result.Message, `write "`+chatImage+"@"+resolvedDigest+`"`) {
			t.Errorf("%q: %q, %s", subresource, got, r.Result.Message)
		}
	}
}

func TestArgumentInMessage(t *testing.T) {
	h := newHooks(t, knows(t, code().Obj()))
	r := h.validate.Handle(context.Background(), create(t, server().
		InitContainer("storage-initializer", "kserve/storage-initializer").Args("storage-initializer", "oci://"+codeImage, "/mnt/models").Container("main", "busybox")))
	const want = `modelrights: pod denied [NoGrant]: argument of container "storage-initializer" (spec.initContainers[0].args[0]): image "registry.example.com/models/code:1" ` +
		`is model chat-7b 2.1 of acme.example, licensed as acme-code, but namespace ml-prod has no ModelGrant of it (inferred from the text of the argument); ` +
		`ask someone who may "grant" on modellicenses/acme-code for a ModelGrant in namespace ml-prod with licenseName acme-code and subject ServiceAccount llm; ` +
		`if the container does not use this image, take its URI out of the argument`
	if r.Allowed || r.Result.Message != want {
		t.Errorf("said\n%s\nwant\n%s", r.Result.Message, want)
	}
}

func TestArgumentBringsNoKey(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj(), grantOf("acme-chat")))
	shell := func() *builders.PodBuilder {
		return server().Container("main", "busybox").Args("main", "oci://"+chatImage)
	}
	pod, reason := admit(t, h, shell())
	if reason != "" || len(pod.Spec.Volumes) > 0 || len(pod.Spec.Containers[0].Env) > 0 {
		t.Errorf("%q, with %+v", reason, pod.Spec)
	}
	for name, b := range map[string]*builders.PodBuilder{"volume": shell().KeyVolume("acme-chat"), "mount": shell().KeyVolume("acme-chat", "main")} {
		if _, reason := admit(t, h, b); reason != v1alpha1.ReasonModelNotReferenced {
			t.Errorf("%s written by hand: %q", name, reason)
		}
	}
}

// FuzzAdmit holds the webhooks to answering, whatever the pod says, and to answer once and for all.
func FuzzAdmit(f *testing.F) {
	for _, image := range []string{chatImage, codeImage, "busybox", "sha256:0", "", "registry.example.com/governed/x"} {
		f.Add(image, "oci://"+image, "$(X)", image)
	}
	f.Fuzz(func(t *testing.T, image, arg, command, value string) {
		h := newHooks(t, knows(t, pinning().Obj(), code().Obj(), grantOf("acme-chat")))
		for _, s := range []*string{&image, &arg, &command, &value} {
			*s = strings.ToValidUTF8(*s, "")
		}
		b := server().Container("main", image).Env("main", "X", value).Args("main", arg).Command("main", command).ImageVolume("v", image, "main")
		pod, reason := admit(t, h, b)
		if reason == "" && (pod.Spec.Containers[0].Image != image && pod.Spec.Containers[0].Image != image+"@"+resolvedDigest) {
			t.Fatalf("%q became %q", image, pod.Spec.Containers[0].Image)
		}
		for _, op := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			req := create(t, b)
			req.Operation, req.OldObject = op, req.Object
			if r := h.validate.Handle(context.Background(), req); !r.Allowed && r.Result.Code != 403 {
				t.Fatalf("%s: %+v", op, r.Result)
			}
		}
	})
}
