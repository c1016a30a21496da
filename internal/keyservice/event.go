package keyservice

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// EventRecorder writes Events (events.k8s.io/v1). Eventf queues and does not wait.
type EventRecorder = events.EventRecorder

// actionRelease is the action of the Events written here.
const actionRelease = "ReleaseKey"

// maxNoteBytes is the API server's bound on an Event's note.
const maxNoteBytes = 1024

func (r *Releaser) event(pod *corev1.Pod, eventType string, reason v1alpha1.Reason, note string) {
	r.Events.Eventf(pod, nil, eventType, string(reason), actionRelease, "%s", clipNote(note))
}

func clipNote(s string) string {
	if len(s) <= maxNoteBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxNoteBytes-len("…")], "") + "…"
}
