package controllers

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// isOverNow: a pod that has ended holds no seat for long.
func isOverNow(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	return ok1 && ok2 && isOver(after) && !isOver(before)
}

// isResizedNow: what a pod gives up by a resize is its own until its node has taken it back, and others wait for it.
func isResizedNow(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	return ok1 && ok2 && isResized(before) && !isResized(after)
}

// isRestoredNow: a pod that was revoked is not to be given a seat, and one that is no more may be without one.
func isRestoredNow(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	return ok1 && ok2 && isRevoked(conditionOf(before, v1alpha1.PodConditionLicensed)) && !isRevoked(conditionOf(after, v1alpha1.PodConditionLicensed))
}

// specWritten leaves out the kubelet's many status updates, where the API server counts a pod's generations: since 1.33. After
// the watch was interrupted, an update may be to another object of the same name, which can have as many.
func specWritten(e event.UpdateEvent) bool {
	return e.ObjectNew.GetGeneration() == 0 || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID()
}

// specUpdates lets updates pass that write a spec.
var specUpdates = predicate.Funcs{UpdateFunc: specWritten}

// relabelled: labels decide where a grant selects pods, and a licence namespaces.
func relabelled(e event.UpdateEvent) bool {
	return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
}
