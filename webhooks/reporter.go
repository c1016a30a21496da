package webhooks

import (
	"cmp"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// maxNote is the longest note that the API server takes in an Event of events.k8s.io/v1, in bytes.
const maxNote = 1024

// Offerer takes entries for the audit log without blocking, and bounds how many of them are written: *audit.Log.
type Offerer interface {
	// Offer reports whether the entry is written by itself, neither coalesced nor merely counted.
	Offer(audit.Entry) bool
}

// Reporter is the Denials that writes each to the audit log and as an Event, so that whoever looks at a Deployment which
// makes no pods finds out why. The log bounds its entries; an Event there is for a denial that has an entry of its own,
// and for the first of an owner.
type Reporter struct {
	log      Offerer
	recorder events.EventRecorder

	mu     sync.Mutex
	events *eventBudget
}

// NewReporter returns a Reporter. The recorder deduplicates Events.
func NewReporter(log Offerer, recorder events.EventRecorder) *Reporter {
	return &Reporter{log: log, recorder: recorder, events: newEventBudget()}
}

// Denied implements Denials.
func (r *Reporter) Denied(d Denial) {
	logged := false
	for _, use := range d.Uses {
		if r.log.Offer(entryOf(d, use)) {
			logged = true
		}
	}
	object := regarding(d)
	r.mu.Lock()
	worthIt := r.events.take(d.Time, *object, logged)
	r.mu.Unlock()
	if worthIt {
		r.recorder.Eventf(object, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonDenied), "Admit", "%s", clip(d.Message, maxNote))
	}
}

func entryOf(d Denial, use DeniedUse) audit.Entry {
	e := audit.Entry{
		Type: audit.Denied, Time: d.Time, Namespace: d.Namespace,
		Pod:            audit.Object{Name: cmp.Or(d.PodName, d.GenerateName), UID: d.PodUID},
		ServiceAccount: d.ServiceAccount,
		License:        audit.Object{Name: use.LicenseName},
		Reason:         use.Reason, Message: use.Message, Actor: d.User,
	}
	if d.Owner != nil {
		e.Owner = audit.Owner{Kind: d.Owner.Kind, Name: d.Owner.Name}
	}
	if use.License != nil {
		e.License = audit.ObjectOf(use.License)
	}
	if use.Grant != nil {
		e.Grant = audit.ObjectOf(use.Grant)
	}
	if use.Image != "" {
		e.Images = []string{use.Image}
	}
	return e
}

// regarding is the pod's controller, since a pod that was denied does not exist; or the pod, where it exists or has none.
// Nodes, which own the mirrors of static pods, are in no namespace, so an Event about one would be refused.
func regarding(d Denial) *corev1.ObjectReference {
	if d.PodUID == "" && d.Owner != nil && d.Owner.Kind != "Node" {
		return &corev1.ObjectReference{
			APIVersion: d.Owner.APIVersion, Kind: d.Owner.Kind, Namespace: d.Namespace, Name: d.Owner.Name, UID: d.Owner.UID,
		}
	}
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: d.Namespace, Name: cmp.Or(d.PodName, d.GenerateName), UID: types.UID(d.PodUID),
	}
}
