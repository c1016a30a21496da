// Package count says what a pod counts for under a licence. It is pure.
package count

import (
	corev1 "k8s.io/api/core/v1"
)

// AmountOf is what a pod counts for, as the scheduler counts it: the requests of its containers, init containers and
// sidecars, pod-level resources, overhead, and of a pod that is resized the most of what it has and what it asks for. Pods
// and nodes are not in it. The limits say which resources must be in the result where there are more than a ledger keeps.
func AmountOf(pod *corev1.Pod, limits ...corev1.ResourceList) corev1.ResourceList {
	_, _ = pod, limits
	return nil
}

// Uncountable reports what in a pod's spec the limits cannot count, in words: resource claims and devices of a limited
// vendor under other names, such as slices of a GPU, where the limits name a device.
func Uncountable(spec *corev1.PodSpec, limits corev1.ResourceList) (what string, bad bool) {
	_, _ = spec, limits
	return "", false
}
