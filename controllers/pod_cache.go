package controllers

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

const (
	// maxCachedText bounds the commands, arguments and variables that are kept of a pod, in bytes.
	maxCachedText = 16 << 10

	// annotationCut is on cached pods whose texts name images and are longer than that. No pod that a user wrote has it in
	// the cache.
	annotationCut = "modelrights.dev/cut"
)

// podsShare is what the pods in the cache have in common: those of a workload nearly all that is kept of them.
var podsShare = struct {
	labels, selectors sharedMaps[map[string]string, string, string]
	overheads         sharedMaps[corev1.ResourceList, corev1.ResourceName, resource.Quantity]
	owners            sharedSlices[metav1.OwnerReference]
	volumes           sharedSlices[corev1.Volume]
	containers        sharedSlices[corev1.Container]
	ephemerals        sharedSlices[corev1.EphemeralContainer]
	statuses          sharedSlices[corev1.ContainerStatus]
	gates             sharedSlices[corev1.PodSchedulingGate]
	claims            sharedSlices[corev1.PodResourceClaim]
	resources         sharedSlices[corev1.ResourceRequirements]
	priorities        sharedSlices[int32]
}{
	labels: newSharedMaps[map[string]string](), selectors: newSharedMaps[map[string]string](),
	overheads: newSharedMaps[corev1.ResourceList](),
}

// keptConditions are the conditions of pods, besides our own, that are read from the cache.
var keptConditions = []corev1.PodConditionType{corev1.PodScheduled, corev1.PodResizePending, corev1.PodResizeInProgress}

// keptAnnotations are those that say how large a group is, with which a pod starts together.
var keptAnnotations = []string{
	"leaderworkerset.sigs.k8s.io/size", "kueue.x-k8s.io/pod-group-total-count",
}

// TrimPod is a cache transform that leaves of a pod what decisions, seats and audit entries need, since a large cluster
// has tens of thousands of them: images, what is requested, our volumes and their mounts, gates, the hosts that it waits for, account and
// labels, owner, our conditions, and the digests that the node reports. Commands, arguments and variables are kept where images
// are looked for in them, up to 16 KiB; of a pod with more nothing can be decided by the cache (isCut). What pods have in
// common they share. A pod from the cache must never be written back whole.
func TrimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	texts := images.NamesSchemes(&pod.Spec)
	cut := texts && textBytes(&pod.Spec) > maxCachedText
	trimPodMeta(&pod.ObjectMeta, cut)
	texts = texts && !cut
	spec, status := &pod.Spec, &pod.Status
	volumes, resized := trimVolumes(spec.Volumes), isResized(pod)
	pod.Status = corev1.PodStatus{
		Phase:                      status.Phase,
		Conditions:                 trimPodConditions(status.Conditions),
		InitContainerStatuses:      podsShare.statuses.one(trimStatuses(status.InitContainerStatuses, resized)),
		ContainerStatuses:          podsShare.statuses.one(trimStatuses(status.ContainerStatuses, resized)),
		AllocatedResources:         podsShare.overheads.one(status.AllocatedResources),
		Resources:                  sharedPart(&podsShare.resources, status.Resources),
		EphemeralContainerStatuses: podsShare.statuses.one(trimStatuses(status.EphemeralContainerStatuses, false)),
	}
	pod.Spec = corev1.PodSpec{
		ServiceAccountName:  shared(spec.ServiceAccountName),
		NodeName:            shared(spec.NodeName),
		NodeSelector:        podsShare.selectors.one(spec.NodeSelector),
		Affinity:            trimAffinity(spec),
		Volumes:             podsShare.volumes.one(volumes),
		InitContainers:      podsShare.containers.one(trimContainers(spec.InitContainers, volumes, texts)),
		Containers:          podsShare.containers.one(trimContainers(spec.Containers, volumes, texts)),
		EphemeralContainers: podsShare.ephemerals.one(trimEphemeral(spec.EphemeralContainers, volumes, texts)),
		SchedulingGates:     podsShare.gates.one(spec.SchedulingGates),
		ResourceClaims:      podsShare.claims.one(spec.ResourceClaims),
		Resources:           sharedPart(&podsShare.resources, spec.Resources),
		Overhead:            podsShare.overheads.one(spec.Overhead),
		Priority:            sharedPart(&podsShare.priorities, spec.Priority),
	}
	return pod, nil
}

// trimPodMeta leaves of annotations those that say how large a group is, and whether texts are missing.
func trimPodMeta(meta *metav1.ObjectMeta, cut bool) {
	var annotations map[string]string
	for _, key := range keptAnnotations {
		if value, ok := meta.Annotations[key]; ok {
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[key] = value
		}
	}
	if cut {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[annotationCut] = "true"
	}
	meta.ManagedFields, meta.GenerateName = nil, ""
	meta.Annotations, meta.Labels = podsShare.labels.one(annotations), podsShare.labels.one(meta.Labels)
	meta.OwnerReferences = podsShare.owners.one(meta.OwnerReferences)
	meta.Namespace = shared(meta.Namespace)
}

// trimPodConditions leaves ours and those that are read.
func trimPodConditions(conditions []corev1.PodCondition) []corev1.PodCondition {
	var kept []corev1.PodCondition
	for _, c := range conditions {
		if strings.HasPrefix(string(c.Type), v1alpha1.GroupVersion.Group+"/") || slices.Contains(keptConditions, c.Type) {
			c.Type, c.Status, c.Reason = shared(c.Type), shared(c.Status), shared(c.Reason)
			kept = append(kept, c)
		}
	}
	return slices.Clip(kept)
}

// trimAffinity leaves which hosts a pod is confined to, until it is on one of them.
func trimAffinity(spec *corev1.PodSpec) *corev1.Affinity {
	if spec.NodeName != "" || len(confinedTo(spec)) == 0 {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
	}}
}

// isCut says whether texts are missing from a cached pod that name images.
func isCut(pod *corev1.Pod) bool { return pod.Annotations[annotationCut] != "" }

func trimVolumes(volumes []corev1.Volume) []corev1.Volume {
	var kept []corev1.Volume
	for _, v := range volumes {
		if v.Image != nil || v.CSI != nil {
			kept = append(kept, v)
		}
	}
	return kept
}

func trimContainers(containers []corev1.Container, volumes []corev1.Volume, texts bool) []corev1.Container {
	kept := make([]corev1.Container, len(containers))
	for i, c := range containers {
		kept[i] = corev1.Container{
			Name: c.Name, Image: c.Image, Resources: c.Resources, RestartPolicy: c.RestartPolicy, VolumeMounts: mountsOf(c.VolumeMounts, volumes),
		}
		if texts {
			kept[i].Command, kept[i].Args, kept[i].Env = c.Command, c.Args, c.Env
		}
	}
	return kept
}

func trimEphemeral(containers []corev1.EphemeralContainer, volumes []corev1.Volume, texts bool) []corev1.EphemeralContainer {
	kept := make([]corev1.EphemeralContainer, len(containers))
	for i, c := range containers {
		kept[i] = corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: c.Name, Image: c.Image, VolumeMounts: mountsOf(c.VolumeMounts, volumes),
		}}
		if texts {
			kept[i].Command, kept[i].Args, kept[i].Env = c.Command, c.Args, c.Env
		}
	}
	return kept
}

// mountsOf leaves the mounts of the volumes that are kept. The others hold what differs between the pods of a workload:
// the name of the volume with the token.
func mountsOf(mounts []corev1.VolumeMount, volumes []corev1.Volume) []corev1.VolumeMount {
	var kept []corev1.VolumeMount
	for _, m := range mounts {
		if slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			kept = append(kept, m)
		}
	}
	return kept
}

// isResized says whether the node does not give a pod what it requests: it was resized, or is to be.
func isResized(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
			return true
		}
	}
	differs := func(containers []corev1.Container, statuses []corev1.ContainerStatus) bool {
		return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool {
			i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == s.Name })
			return i >= 0 && (s.AllocatedResources != nil && !equality.Semantic.DeepEqual(s.AllocatedResources, containers[i].Resources.Requests) ||
				s.Resources != nil && s.Resources.Requests != nil && !equality.Semantic.DeepEqual(s.Resources.Requests, containers[i].Resources.Requests))
		})
	}
	return differs(pod.Spec.InitContainers, pod.Status.InitContainerStatuses) || differs(pod.Spec.Containers, pod.Status.ContainerStatuses)
}

// trimStatuses leaves which image a container runs, and which lie in its image volumes; of a pod that was resized also what
// the node gives it.
func trimStatuses(statuses []corev1.ContainerStatus, resized bool) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, s := range statuses {
		status := corev1.ContainerStatus{Name: s.Name, ImageID: s.ImageID}
		for _, m := range s.VolumeMounts {
			if m.VolumeStatus != nil && m.VolumeStatus.Image != nil {
				status.VolumeMounts = append(status.VolumeMounts, corev1.VolumeMountStatus{Name: m.Name, VolumeStatus: m.VolumeStatus})
			}
		}
		if resized {
			status.AllocatedResources, status.Resources = s.AllocatedResources, s.Resources
		}
		if status.ImageID != "" || status.VolumeMounts != nil || resized {
			kept = append(kept, status)
		}
	}
	return kept
}

// textBytes is how long a pod's commands, arguments and variables are together.
func textBytes(spec *corev1.PodSpec) int {
	n := 0
	count := func(command, args []string, env []corev1.EnvVar) {
		for _, texts := range [][]string{command, args} {
			for _, text := range texts {
				n += len(text)
			}
		}
		for i := range env {
			n += len(env[i].Name) + len(env[i].Value)
		}
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		count(c.Command, c.Args, c.Env)
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		count(c.Command, c.Args, c.Env)
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		count(c.Command, c.Args, c.Env)
	}
	return n
}
