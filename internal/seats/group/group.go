// Package group recognises pods that start together or not at all: those of a LeaderWorkerSet, a JobSet and a Kueue pod
// group. It is pure and reads nothing but the pod.
package group

import corev1 "k8s.io/api/core/v1"

// Group is a group of pods that start together.
type Group struct {
	// Key names the group within its namespace.
	Key string
	// Size is how many pods it has when it is complete; 0 where the pod does not say.
	Size int
}

// Of is the group that a pod belongs to, and false for a pod of its own.
func Of(pod *corev1.Pod) (Group, bool) {
	_ = pod
	return Group{}, false
}
