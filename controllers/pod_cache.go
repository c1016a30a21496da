package controllers

import (
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/images"
)

const (
	// maxCachedText bounds the commands, arguments and variables that are kept of a pod, in bytes.
	maxCachedText = 16 << 10

	// annotationCut is on cached pods whose texts name images and are longer than that. No pod that a user wrote has it in
	// the cache.
	annotationCut = "modelrights.dev/cut"
)

// TrimPod is a cache transform that leaves of a pod what decisions and audit entries need, since a large cluster has
// tens of thousands of them: images, volumes and mounts, account and labels, owner, conditions, and the digests that the
// node reports. Commands, arguments and variables are kept where images are looked for in them, up to 16 KiB; of a pod with
// more nothing can be decided by the cache (isCut). A pod from the cache must never be written back whole.
func TrimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	texts := images.NamesSchemes(&pod.Spec)
	pod.ManagedFields = nil
	pod.Annotations = nil
	if texts && textBytes(&pod.Spec) > maxCachedText {
		texts = false
		pod.Annotations = map[string]string{annotationCut: "true"}
	}
	pod.Status = corev1.PodStatus{
		Phase:                      pod.Status.Phase,
		Conditions:                 pod.Status.Conditions,
		InitContainerStatuses:      trimStatuses(pod.Status.InitContainerStatuses),
		ContainerStatuses:          trimStatuses(pod.Status.ContainerStatuses),
		EphemeralContainerStatuses: trimStatuses(pod.Status.EphemeralContainerStatuses),
	}
	pod.Spec = corev1.PodSpec{
		ServiceAccountName:  pod.Spec.ServiceAccountName,
		NodeName:            pod.Spec.NodeName,
		Volumes:             trimVolumes(pod.Spec.Volumes),
		InitContainers:      trimContainers(pod.Spec.InitContainers, texts),
		Containers:          trimContainers(pod.Spec.Containers, texts),
		EphemeralContainers: trimEphemeral(pod.Spec.EphemeralContainers, texts),
	}
	return pod, nil
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

func trimContainers(containers []corev1.Container, texts bool) []corev1.Container {
	kept := make([]corev1.Container, len(containers))
	for i, c := range containers {
		kept[i] = corev1.Container{Name: c.Name, Image: c.Image, VolumeMounts: c.VolumeMounts}
		if texts {
			kept[i].Command, kept[i].Args, kept[i].Env = c.Command, c.Args, c.Env
		}
	}
	return kept
}

func trimEphemeral(containers []corev1.EphemeralContainer, texts bool) []corev1.EphemeralContainer {
	kept := make([]corev1.EphemeralContainer, len(containers))
	for i, c := range containers {
		kept[i] = corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: c.Name, Image: c.Image, VolumeMounts: c.VolumeMounts,
		}}
		if texts {
			kept[i].Command, kept[i].Args, kept[i].Env = c.Command, c.Args, c.Env
		}
	}
	return kept
}

// trimStatuses leaves which image a container runs, and which lie in its image volumes.
func trimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, s := range statuses {
		status := corev1.ContainerStatus{Name: s.Name, ImageID: s.ImageID}
		for _, m := range s.VolumeMounts {
			if m.VolumeStatus != nil && m.VolumeStatus.Image != nil {
				status.VolumeMounts = append(status.VolumeMounts, corev1.VolumeMountStatus{Name: m.Name, VolumeStatus: m.VolumeStatus})
			}
		}
		if status.ImageID != "" || status.VolumeMounts != nil {
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
