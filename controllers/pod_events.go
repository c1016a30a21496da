package controllers

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Actions of Events about seats.
const (
	actionWait   = "Wait"
	actionResize = "Resize"
)

// toleratedEvent says on a pod that it runs without entitlement, since its licence warns alone.
func toleratedEvent(recorder events.EventRecorder, about runtime.Object, note string) {
	recorder.Eventf(about, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonTolerated), actionFind, "%s", bounded(note))
}

// waitingEvent says on a pod that it begins to wait, and what for.
func waitingEvent(recorder events.EventRecorder, about runtime.Object, reason v1alpha1.Reason, note string) {
	recorder.Eventf(about, nil, corev1.EventTypeNormal, string(reason), actionWait, "%s", bounded(note))
}

// resizedEvent says on a pod that its seat counts for what it requests now.
func resizedEvent(recorder events.EventRecorder, about, related runtime.Object, note string) {
	recorder.Eventf(about, related, corev1.EventTypeNormal, string(v1alpha1.ReasonPodResized), actionResize, "%s", bounded(note))
}
