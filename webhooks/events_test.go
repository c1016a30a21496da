package webhooks

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

func deniedOf(namespace, owner string, at time.Duration) Denial {
	return Denial{
		Time: now.Add(at), Namespace: namespace, GenerateName: "p-", Message: "m",
		Owner: &metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: "u"},
		Uses:  []DeniedUse{{Image: chatImage, Reason: v1alpha1.ReasonNoGrant}},
	}
}

func TestEventsWhereTheLogIsFull(t *testing.T) {
	for name, test := range map[string]struct {
		denials []Denial
		want    int
	}{
		"the first of an owner":        {[]Denial{deniedOf("ml", "a", 0)}, 1},
		"no more of it":                {[]Denial{deniedOf("ml", "a", 0), deniedOf("ml", "a", 59*time.Minute)}, 1},
		"again when the Event is gone": {[]Denial{deniedOf("ml", "a", 0), deniedOf("ml", "a", time.Hour)}, 2},
		"another owner":                {[]Denial{deniedOf("ml", "a", 0), deniedOf("ml", "b", 0)}, 2},
		"another namespace":            {[]Denial{deniedOf("ml", "a", 0), deniedOf("other", "a", 0)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var events fakeEvents
			r := NewReporter(fullLog{}, &events)
			for _, d := range test.denials {
				r.Denied(d)
			}
			if len(events) != test.want {
				t.Errorf("%d Events, want %d", len(events), test.want)
			}
		})
	}
}

// TestEventsAreBounded denies 10,000 pods within a minute, each of an owner of its own, with the audit log's own limits;
// and then one of a Deployment elsewhere.
func TestEventsAreBounded(t *testing.T) {
	var events fakeEvents
	log := limited{audit.NewDenials(audit.DenialLimits{})}
	r := NewReporter(log, &events)
	for n := range 10000 {
		r.Denied(deniedOf("loud", fmt.Sprintf("o-%d", n), time.Duration(n)*6*time.Millisecond))
	}
	if len(events) > 100 || len(events) < eventsBurst {
		t.Errorf("%d Events of 10,000 denials", len(events))
	}
	before := len(events)
	r.Denied(deniedOf("quiet", "server", time.Minute))
	if len(events) != before+1 {
		t.Error("no Event about the first denial in another namespace")
	}
}

type limited struct{ denials *audit.Denials }

func (l limited) Offer(e audit.Entry) bool {
	_, fate := l.denials.Observe(e.Time, e)
	return fate == audit.Written
}

func TestEventMemoryIsBounded(t *testing.T) {
	b := newEventBudget()
	object := func(namespace, name int) corev1.ObjectReference {
		return corev1.ObjectReference{Namespace: fmt.Sprintf("ns-%d", namespace), Name: fmt.Sprintf("o-%d", name)}
	}
	for ns := range 2 * maxEventNamespaces {
		b.take(now, object(ns, 0), false)
	}
	for o := range 2 * maxEventObjects {
		b.take(now, object(0, o), true)
	}
	if len(b.namespaces) != maxEventNamespaces || len(b.namespaces["ns-0"].told) != maxEventObjects {
		t.Errorf("%d namespaces and %d objects are remembered", len(b.namespaces), len(b.namespaces["ns-0"].told))
	}
	later := now.Add(eventsMemory)
	if !b.take(later, object(5000, 0), false) || len(b.namespaces) != 1 {
		t.Errorf("%d namespaces are remembered an hour later", len(b.namespaces))
	}
}
