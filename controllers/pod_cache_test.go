package controllers

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/seats/count"
	"modelrights.dev/modelrights/test/builders"
)

func trimmed(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	object, err := TrimPod(pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	return object.(*corev1.Pod)
}

// TestTrimPodKeepsUses: what is decided by the cache is what is decided by the pod, or the cache says that it does not know.
func TestTrimPodKeepsUses(t *testing.T) {
	withArgs := func(args ...string) *corev1.Pod {
		pod := builders.Pod("ml", "llm").InitContainer("fetch", "kserve/storage-initializer").Container("server", chatImage).
			EphemeralContainer("debug", "busybox").ImageVolume("model", otherImage, "server").EmptyDir("scratch", "server").
			KeyVolume("chat", "server").Env("fetch", "HOST", "registry.example.com").Obj()
		pod.Spec.InitContainers[0].Args = args
		pod.Spec.Containers[0].Command = []string{"serve", "--all"}
		pod.Spec.EphemeralContainers[0].Args = args
		return pod
	}
	for name, test := range map[string]struct {
		pod *corev1.Pod
		cut bool
	}{
		"no texts":                      {withArgs(), false},
		"texts that name nothing":       {withArgs("--model", "x", strings.Repeat("y", 1<<20)), false},
		"an argument":                   {withArgs("--model", "oci://registry.example.com/models/chat:1", "/mnt"), false},
		"an argument with a variable":   {withArgs("oci://$(HOST)/models/chat:1"), false},
		"an argument in a long program": {withArgs("oci://registry.example.com/models/chat:1", strings.Repeat("y", maxCachedText)), true},
	} {
		t.Run(name, func(t *testing.T) {
			kept := trimmed(t, test.pod)
			if isCut(kept) != test.cut {
				t.Errorf("cut: %v, want %v", isCut(kept), test.cut)
			}
			want, got := images.FromPod(&test.pod.Spec), images.FromPod(&kept.Spec)
			for i := range want { // volumes of other kinds are left out, so that places move
				want[i].Field = ""
			}
			for i := range got {
				got[i].Field = ""
			}
			if reflect.DeepEqual(got, want) == test.cut {
				t.Errorf("uses %+v, want %+v", got, want)
			}
			if n := textBytes(&kept.Spec); n > maxCachedText {
				t.Errorf("%d bytes of text are kept", n)
			}
		})
	}
}

// TestTrimPodDoesNotTrustAnnotations: a tenant cannot say of a pod that it was cut.
func TestTrimPodDoesNotTrustAnnotations(t *testing.T) {
	if isCut(trimmed(t, builders.Pod("ml", "llm").Annotation(annotationCut, "true").Container("server", chatImage).Obj())) {
		t.Error("the annotation was kept")
	}
}

// TestTrimPodKeepsDigests: the digests that the node reports, of containers and image volumes.
func TestTrimPodKeepsDigests(t *testing.T) {
	pod := reportedPod()
	if want, got := runningImages(pod), runningImages(trimmed(t, pod)); len(want) != 4 || !reflect.DeepEqual(got, want) {
		t.Errorf("kept %+v, want %+v", got, want)
	}
}

// TestTrimPodKeepsWhatSeatsNeed: what a pod counts for, its turn, its group, and whether it waits.
func TestTrimPodKeepsWhatSeatsNeed(t *testing.T) {
	full := builders.Pod("ml", "llm").InitContainer("proxy", "envoy").Container("server", chatImage).KeyVolume("chat", "server").EmptyDir("scratch", "server").
		Annotation("leaderworkerset.sigs.k8s.io/size", "4").Annotation("kueue.x-k8s.io/pod-group-total-count", "8").Annotation("other", "x").Obj()
	gpus := corev1.ResourceRequirements{Requests: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("2")}, Claims: []corev1.ResourceClaim{{Name: "mig"}}}
	spec := &full.Spec
	spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SeatGate}, {Name: "other"}}
	spec.InitContainers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	spec.InitContainers[0].Resources, spec.Containers[0].Resources, spec.Resources = gpus, gpus, &gpus
	spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "mig", ResourceClaimName: ptr.To("a")}}
	spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("250m")}
	spec.Priority, spec.NodeSelector = ptr.To[int32](7), map[string]string{"zone": "a"}
	full.Status.Conditions = []corev1.PodCondition{
		{Type: v1alpha1.PodConditionLicensed, Status: "True", Message: "marks"}, {Type: corev1.PodReady, Status: "True"}, {Type: corev1.PodScheduled, Status: "True"},
	}

	kept := trimmed(t, full)
	want := full.DeepCopy()
	want.Annotations = map[string]string{"leaderworkerset.sigs.k8s.io/size": "4", "kueue.x-k8s.io/pod-group-total-count": "8"}
	want.Status.Conditions = []corev1.PodCondition{full.Status.Conditions[0], full.Status.Conditions[2]}
	want.Spec.Volumes = slices.DeleteFunc(want.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil })
	for _, containers := range [][]corev1.Container{want.Spec.InitContainers, want.Spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = slices.DeleteFunc(containers[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "scratch" })
		}
	}
	if !equality.Semantic.DeepEqual(kept, want) {
		t.Errorf("kept is not what is wanted (-want +got):\n%s", cmp.Diff(want, kept))
	}
}

// TestTrimPodKeepsResizes: a cached pod counts for as much as the pod itself, while it is resized too.
func TestTrimPodKeepsResizes(t *testing.T) {
	cpus := func(n string) *corev1.ResourceRequirements {
		return &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(n)}}
	}
	for name, tc := range map[string]struct {
		spec, allocated, actual string
		condition               corev1.PodConditionType
		reason                  string
	}{
		"as it was":              {"2", "2", "2", "", ""},
		"made smaller":           {"1", "2", "2", "", ""},
		"made larger":            {"4", "2", "2", corev1.PodResizePending, corev1.PodReasonDeferred},
		"larger than the node":   {"64", "2", "2", corev1.PodResizePending, corev1.PodReasonInfeasible},
		"given, but not in full": {"1", "1", "2", corev1.PodResizeInProgress, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := builders.Pod("ml", "llm").Container("server", chatImage).Obj()
			pod.Spec.Containers[0].Resources = *cpus(tc.spec)
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "server", AllocatedResources: cpus(tc.allocated).Requests, Resources: cpus(tc.actual)}}
			if tc.condition != "" {
				pod.Status.Conditions = []corev1.PodCondition{{Type: tc.condition, Status: corev1.ConditionTrue, Reason: tc.reason}}
			}
			if want, got := count.AmountOf(pod), count.AmountOf(trimmed(t, pod)); !equality.Semantic.DeepEqual(got, want) {
				t.Errorf("the cached pod counts for %v, the pod for %v", got, want)
			}
		})
	}
}

// TestCachedPodsShare: the pods of a workload share what they have in common, and no others do.
func TestCachedPodsShare(t *testing.T) {
	workload := func(name, image string) *corev1.Pod {
		return trimmed(t, builders.Pod("ml", name).Label("app", "chat").Container("server", image).EmptyDir("token-"+name, "server").Obj())
	}
	a, b, other := workload("a", chatImage), workload("b", chatImage), workload("c", otherImage)
	if &a.Spec.Containers[0] != &b.Spec.Containers[0] {
		t.Error("two pods of a workload have a copy each of their containers")
	}
	if other.Spec.Containers[0].Image != otherImage || b.Name != "b" {
		t.Errorf("pod %s has image %s, pod %s another name", other.Name, other.Spec.Containers[0].Image, b.Name)
	}
}

// TestCachedPodsAreSmall: what a cached pod takes, which large clusters have tens of thousands of.
func TestCachedPodsAreSmall(t *testing.T) {
	const pods, limit = 2000, 2 << 10
	kept := make([]*corev1.Pod, pods)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		pod := reportedPod()
		pod.Name = fmt.Sprintf("llm-%d", i)
		pod.Spec.Containers[0].Args = []string{strings.Repeat("a", 32<<10)}
		if i%2 == 0 {
			pod.Spec.Containers[0].Args = []string{"oci://registry.example.com/models/chat:1", strings.Repeat("a", 256<<10)}
		}
		kept[i] = trimmed(t, pod)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / pods
	t.Logf("%d bytes a pod", each)
	if each > limit {
		t.Errorf("a cached pod takes %d bytes, want at most %d", each, limit)
	}
	runtime.KeepAlive(kept)
}
