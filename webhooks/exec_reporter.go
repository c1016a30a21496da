package webhooks

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// SessionReporter is the Sessions that writes each to the audit log and as an Event on the pod. The log bounds its
// entries; an Event there is for a session that has an entry of its own, and for the first into a pod.
type SessionReporter struct {
	log      Offerer
	recorder events.EventRecorder

	mu     sync.Mutex
	events *eventBudget
}

// NewSessionReporter returns a SessionReporter. The recorder deduplicates Events.
func NewSessionReporter(log Offerer, recorder events.EventRecorder) *SessionReporter {
	return &SessionReporter{log: log, recorder: recorder, events: newEventBudget()}
}

// Opened implements Sessions.
func (r *SessionReporter) Opened(s Session) {
	reason, what := v1alpha1.ReasonExecIntoKeyHolder, fmt.Sprintf("%s was allowed to %s", clip(s.User, maxName), s.How)
	if s.Denied {
		reason, what = v1alpha1.ReasonExecDenied, fmt.Sprintf("%s was refused to %s", clip(s.User, maxName), s.How)
	}
	logged := false
	for _, license := range s.Licenses {
		if r.log.Offer(entryOfSession(s, license, reason)) {
			logged = true
		}
	}
	pod := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: s.Pod.Namespace, Name: s.Pod.Name, UID: s.Pod.UID}
	r.mu.Lock()
	worthIt := r.events.take(s.Time, *pod, logged)
	r.mu.Unlock()
	if worthIt {
		r.recorder.Eventf(pod, nil, corev1.EventTypeWarning, string(reason), "Connect", "%s", clip(what, maxNote))
	}
}

func entryOfSession(s Session, license *v1alpha1.ModelLicense, reason v1alpha1.Reason) audit.Entry {
	account := s.Pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	return audit.Entry{
		Type: audit.Exec, Time: s.Time, Namespace: s.Pod.Namespace, Pod: audit.ObjectOf(s.Pod), Owner: audit.OwnerOf(s.Pod),
		ServiceAccount: account, Node: s.Pod.Spec.NodeName, License: audit.ObjectOf(license),
		Reason: reason, Message: s.How, Actor: s.User,
	}
}
