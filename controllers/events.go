package controllers

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Actions of Events: what the operator was doing, as events.k8s.io/v1 wants it said.
const (
	actionReconcile = "Reconcile"
	actionAdmit     = "Admit"
	actionFind      = "Find"
	actionEvict     = "Evict"
	actionDelete    = "Delete"
)

// maxEventNote bounds an Event's note, in bytes, as the API server does.
const maxEventNote = 1024

// readinessEvent says on a licence or grant that its readiness changed, and why.
func readinessEvent(recorder events.EventRecorder, about runtime.Object, conditions []metav1.Condition) {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	kind := corev1.EventTypeNormal
	if ready.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	recorder.Eventf(about, nil, kind, ready.Reason, actionReconcile, "%s", bounded(ready.Message))
}

// admittedEvent says on a pod, or on the licence or grant that it uses, that the pod was admitted.
func admittedEvent(recorder events.EventRecorder, about, related runtime.Object, note string) {
	recorder.Eventf(about, related, corev1.EventTypeNormal, string(v1alpha1.ReasonAdmitted), actionAdmit, "%s", bounded(note))
}

// foundEvent says on a pod that it runs without entitlement.
func foundEvent(recorder events.EventRecorder, about runtime.Object, note string) {
	recorder.Eventf(about, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonFoundUnlicensed), actionFind, "%s", bounded(note))
}

// copyEvent says on a pod or a licence that the pod runs a copy, or was evicted for it.
func copyEvent(recorder events.EventRecorder, reason v1alpha1.Reason, about, related runtime.Object, note string) {
	action := actionFind
	if reason == v1alpha1.ReasonCopyEvicted {
		action = actionEvict
	}
	recorder.Eventf(about, related, corev1.EventTypeWarning, string(reason), action, "%s", bounded(note))
}

// seatEndedEvent says on a licence that a pod's seat ended though nothing proves that the pod did.
func seatEndedEvent(recorder events.EventRecorder, license, pod runtime.Object, note string) {
	recorder.Eventf(license, pod, corev1.EventTypeWarning, string(v1alpha1.ReasonSeatEnded), actionReconcile, "%s", bounded(note))
}

// strandedEvent says on a pod that it was deleted, since the nodes that it waited for are gone.
func strandedEvent(recorder events.EventRecorder, pod runtime.Object, note string) {
	recorder.Eventf(pod, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonNodeGone), actionDelete, "%s", bounded(note))
}

func bounded(note string) string {
	if len(note) <= maxEventNote {
		return note
	}
	return strings.ToValidUTF8(note[:maxEventNote-3], "") + "…"
}
