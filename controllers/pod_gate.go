package controllers

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// isGated says whether our scheduling gate keeps a pod from being scheduled.
func isGated(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name == v1alpha1.SeatGate {
			return true
		}
	}
	return false
}

// hasOtherGates says whether gates of others do so too.
func hasOtherGates(pod *corev1.Pod) bool {
	return len(pod.Spec.SchedulingGates) > 1 || len(pod.Spec.SchedulingGates) == 1 && !isGated(pod)
}

// isOver says whether all containers of a pod have ended for good.
func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// rolloutOf is which workload a pod belongs to and which revision of it, so that it can be told which pods a new one
// replaces. A Deployment's pods belong to ReplicaSets, whose names begin with the Deployment's:
// https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label. Both are empty for a pod
// that no controller owns.
func rolloutOf(pod *corev1.Pod) (owner, revision string) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return "", ""
	}
	hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if name, ok := strings.CutSuffix(ref.Name, "-"+hash); ok && hash != "" && ref.Kind == "ReplicaSet" {
		return pod.Namespace + "/Deployment/" + name, string(ref.UID)
	}
	return pod.Namespace + "/" + string(ref.UID), pod.Labels[appsv1.ControllerRevisionHashLabelKey]
}
