package controllers

import corev1 "k8s.io/api/core/v1"

// TrimPod is a cache transform that leaves of a pod what decisions and audit entries need, since a large cluster has
// tens of thousands of them: images, volumes and mounts, account and labels, owner, and conditions. A pod from the
// cache must never be written back whole.
func TrimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	pod.ManagedFields = nil
	pod.Annotations = nil
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, Conditions: pod.Status.Conditions}
	pod.Spec = corev1.PodSpec{
		ServiceAccountName:  pod.Spec.ServiceAccountName,
		NodeName:            pod.Spec.NodeName,
		Volumes:             trimVolumes(pod.Spec.Volumes),
		InitContainers:      trimContainers(pod.Spec.InitContainers),
		Containers:          trimContainers(pod.Spec.Containers),
		EphemeralContainers: trimEphemeral(pod.Spec.EphemeralContainers),
	}
	return pod, nil
}

func trimVolumes(volumes []corev1.Volume) []corev1.Volume {
	var kept []corev1.Volume
	for _, v := range volumes {
		if v.Image != nil || v.CSI != nil {
			kept = append(kept, v)
		}
	}
	return kept
}

func trimContainers(containers []corev1.Container) []corev1.Container {
	kept := make([]corev1.Container, len(containers))
	for i, c := range containers {
		kept[i] = corev1.Container{Name: c.Name, Image: c.Image, VolumeMounts: c.VolumeMounts}
	}
	return kept
}

func trimEphemeral(containers []corev1.EphemeralContainer) []corev1.EphemeralContainer {
	kept := make([]corev1.EphemeralContainer, len(containers))
	for i, c := range containers {
		kept[i] = corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: c.Name, Image: c.Image, VolumeMounts: c.VolumeMounts,
		}}
	}
	return kept
}
