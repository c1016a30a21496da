package entitlement

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDecideKeyVolumes(t *testing.T) {
	// form changes the key volume of an entitled pod.
	form := func(change func(*corev1.CSIVolumeSource)) Pod {
		pod := podOf(server().Container("main", chatImage).KeyVolume("acme-chat", "main"))
		change(pod.Spec.Volumes[0].CSI)
		return pod
	}
	granted := []any{chat().Obj(), code().Obj(), grantOf("acme-chat")}
	tests := map[string]struct {
		pod     Pod
		objects []any
		want    []v1alpha1.Reason
		says    string
	}{
		"no volume":             {podOf(server().Container("main", chatImage)), granted, nil, ""},
		"as the webhook adds":   {podOf(server().Container("main", chatImage).KeyVolume("acme-chat", "main")), granted, nil, ""},
		"for an init container": {podOf(server().InitContainer("fetch", chatImage).Container("main", "busybox").KeyVolume("acme-chat", "fetch")), granted, nil, ""},
		"for an image volume":   {podOf(server().Container("main", "busybox").ImageVolume("weights", chatImage, "main").KeyVolume("acme-chat", "main")), granted, nil, ""},
		"mounted nowhere":       {podOf(server().Container("main", chatImage).KeyVolume("acme-chat")), granted, nil, ""},
		"another driver": {
			form(func(v *corev1.CSIVolumeSource) { v.Driver = "csi.example.com"; v.ReadOnly = nil }), granted, nil, "",
		},
		"no grant": {
			podOf(server().Container("main", chatImage).KeyVolume("acme-chat", "main")), []any{chat().Obj()},
			[]v1alpha1.Reason{v1alpha1.ReasonNoGrant}, "ml-prod has no ModelGrant",
		},
		"no such licence": {
			podOf(server().Container("main", chatImage).KeyVolume("acme-none", "main")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonLicenseMissing}, `"acme-none", which does not exist`,
		},
		"a granted licence whose image is not used": {
			podOf(server().Container("main", "busybox").KeyVolume("acme-chat", "main")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, "no image of this pod",
		},
		"an image volume that nobody mounts": {
			podOf(server().Container("main", "busybox").ImageVolume("weights", chatImage).KeyVolume("acme-chat")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, "no container runs one of its images",
		},
		"an ephemeral container alone": {
			podOf(server().Container("main", "busybox").EphemeralContainer("debug", chatImage).KeyVolume("acme-chat")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, "no container runs one of its images",
		},
		"a container that does not use it": {
			podOf(server().Container("main", chatImage).Container("shell", "busybox").KeyVolume("acme-chat", "main", "shell")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonModelNotReferenced}, "container shell mounts the key of licence acme-chat",
		},
		"an ephemeral container that runs the image": {
			podOf(server().Container("main", chatImage).EphemeralContainer("debug", chatImage).KeyVolume("acme-chat", "main", "debug")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "ephemeral container debug mounts the key",
		},
		"two licences, one of them not granted": {
			podOf(server().Container("a", chatImage).Container("b", codeImage).KeyVolume("acme-chat", "a").KeyVolume("acme-code", "b")), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonNoGrant}, "acme-code",
		},
		"no licence": {
			form(func(v *corev1.CSIVolumeSource) { v.VolumeAttributes = nil }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "names no licence",
		},
		"another attribute": {
			form(func(v *corev1.CSIVolumeSource) { v.VolumeAttributes["csi.storage.k8s.io/pod.name"] = "other" }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "volumeAttributes other than license",
		},
		"a publish secret": {
			form(func(v *corev1.CSIVolumeSource) { v.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "s"} }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "nodePublishSecretRef",
		},
		"a file system": {
			form(func(v *corev1.CSIVolumeSource) { v.FSType = ptr.To("ext4") }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "fsType",
		},
		"writable": {
			form(func(v *corev1.CSIVolumeSource) { v.ReadOnly = nil }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "readOnly: true",
		},
		"writable in so many words": {
			form(func(v *corev1.CSIVolumeSource) { v.ReadOnly = ptr.To(false) }), granted,
			[]v1alpha1.Reason{v1alpha1.ReasonKeyVolumeInvalid}, "readOnly: true",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			refusals := DecideKeyVolumes(test.pod, snapshot(t, test.objects...), now)
			if got := reasonsOf(refusals); !slices.Equal(got, test.want) {
				t.Fatalf("refused %+v, want %v", refusals, test.want)
			}
			for _, r := range refusals {
				if !strings.Contains(r.Message, test.says) || r.Remedy == "" || !strings.HasPrefix(r.Field, "spec.volumes[") {
					t.Errorf("refusal %+v does not say %q where, and what to do", r, test.says)
				}
			}
		})
	}
}

func TestHeldLicenses(t *testing.T) {
	pod := builders.Pod("ml-prod", "p").EmptyDir("scratch").KeyVolume("b").KeyVolume("a").KeyVolume("b").Obj()
	if got, want := HeldLicenses(&pod.Spec), []string{"b", "a"}; !slices.Equal(got, want) {
		t.Errorf("held %v, want %v", got, want)
	}
}
