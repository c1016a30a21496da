package controllers

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// maxConditionMessage bounds a condition's message, in bytes.
const maxConditionMessage = 1024

// setCondition sets one condition for a generation and keeps the time of the last change where the status is the same.
func setCondition(conditions *[]metav1.Condition, generation int64, kind string, status bool, reason v1alpha1.Reason, message string) {
	value := metav1.ConditionFalse
	if status {
		value = metav1.ConditionTrue
	}
	if len(message) > maxConditionMessage {
		message = message[:maxConditionMessage]
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: kind, Status: value, Reason: string(reason), Message: message, ObservedGeneration: generation,
	})
}

// setReadiness sets Ready, and with it the conditions by which kstatus tells work in progress from work that cannot go
// on: Reconciling and Stalled are only present while they are True.
// https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
func setReadiness(conditions *[]metav1.Condition, generation int64, ready, retried bool, reason v1alpha1.Reason, message string) {
	setCondition(conditions, generation, v1alpha1.ConditionReady, ready, reason, message)
	for kind, on := range map[string]bool{
		v1alpha1.ConditionReconciling: !ready && retried,
		v1alpha1.ConditionStalled:     !ready && !retried,
	} {
		if on {
			setCondition(conditions, generation, kind, true, reason, message)
		} else {
			meta.RemoveStatusCondition(conditions, kind)
		}
	}
}

// readyChanged says whether Ready has another status or reason than before, which is worth an Event.
func readyChanged(before, after []metav1.Condition) bool {
	b, a := meta.FindStatusCondition(before, v1alpha1.ConditionReady), meta.FindStatusCondition(after, v1alpha1.ConditionReady)
	return a != nil && (b == nil || a.Status != b.Status || a.Reason != b.Reason)
}
