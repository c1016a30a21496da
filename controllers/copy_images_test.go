package controllers

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/test/builders"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestParseImageID(t *testing.T) {
	for name, test := range map[string]struct{ id, digest, pulled string }{
		"containerd":              {"docker.io/library/busybox@" + digestA, digestA, "docker.io/library/busybox@" + digestA},
		"a configuration":         {digestA, digestA, ""},
		"CRI-O without algorithm": {strings.TrimPrefix(digestA, "sha256:"), digestA, ""},
		"dockershim":              {"docker-pullable://docker.io/library/busybox@" + digestA, digestA, "docker.io/library/busybox@" + digestA},
		"dockershim's own":        {"docker://" + digestA, digestA, ""},
		"not pulled yet":          {"", "", ""},
		"a tag":                   {"docker.io/library/busybox:1", "", ""},
		"an abbreviation":         {"sha256:aaaa", "", ""},
		"another algorithm":       {"x@sha512:" + strings.Repeat("a", 128), "", ""},
		"no hexadecimal digits":   {"x@sha256:" + strings.Repeat("z", 64), "", ""},
	} {
		if digest, pulled := parseImageID(test.id); digest != test.digest || pulled != test.pulled {
			t.Errorf("%s: %q, %q", name, digest, pulled)
		}
	}
}

// reportedPod is a pod with an image in every place that a node reports.
func reportedPod() *corev1.Pod {
	pod := builders.Pod("ml", "llm").InitContainer("init", "example.com/init").Container("server", "example.com/server").
		EphemeralContainer("debug", "example.com/debug").ImageVolume("model", "example.com/model", "server", "init").Obj()
	pod.Status.Phase = corev1.PodRunning
	mount := corev1.VolumeMountStatus{Name: "model", VolumeStatus: &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: "example.com/model@" + digestB}}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", ImageID: "example.com/init@" + digestA}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "server", ImageID: digestA, VolumeMounts: []corev1.VolumeMountStatus{mount, {Name: "scratch"}}}, {Name: "starting"}}
	pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: "example.com/debug@" + digestB}}
	return pod
}

func TestRunningImages(t *testing.T) {
	want := []runningImage{
		{images.UseInitContainer, "init", "example.com/init", digestA, "example.com/init@" + digestA},
		{images.UseContainer, "server", "example.com/server", digestA, ""},
		{images.UseEphemeralContainer, "debug", "example.com/debug", digestB, "example.com/debug@" + digestB},
		{images.UseImageVolume, "model", "example.com/model", digestB, "example.com/model@" + digestB},
	}
	if got := runningImages(reportedPod()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	changed := reportedPod()
	changed.Status.ContainerStatuses[0].Ready = true
	if !sameRunningImages(reportedPod(), changed) {
		t.Error("readiness counts as another image")
	}
	changed.Status.ContainerStatuses[0].ImageID = digestB
	if sameRunningImages(reportedPod(), changed) {
		t.Error("another digest counts as the same image")
	}
}
