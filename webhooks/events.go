package webhooks

import (
	"crypto/sha256"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Bounds of the Events about denials that have no entry of their own in the audit log.
const (
	// eventsBurst is how many a namespace has at once, and one comes back every eventsEvery.
	eventsBurst = 30
	eventsEvery = time.Minute
	// eventsMemory is for how long an object that had an Event needs no other: Events are deleted after an hour.
	eventsMemory = time.Hour
	// maxEventNamespaces is how many namespaces are remembered. Further ones have Events for entries of the log alone.
	maxEventNamespaces = 1024
	// maxEventObjects is how many objects of a namespace are remembered.
	maxEventObjects = 256
)

// eventBudget decides which denials are worth an Event: those that the log took, which bounds them, and the first of each
// object, so that whoever looks at a Deployment finds out why it makes no pods even when the namespace has used up what
// it may write to the log. Of the latter a namespace has a burst of 30 and one a minute.
//
// It does no I/O, takes the time from its caller, and is not safe for concurrent use.
type eventBudget struct{ namespaces map[string]*eventNamespace }

type eventNamespace struct {
	told map[objectKey]time.Time
	// spent is how long it takes until the burst is whole again, counted from since.
	spent time.Duration
	since time.Time
}

// objectKey stands for an object, whose name as an owner may be of any length.
type objectKey [sha256.Size]byte

func keyOf(object corev1.ObjectReference) objectKey { return sha256.Sum256([]byte(object.String())) }

func newEventBudget() *eventBudget { return &eventBudget{namespaces: map[string]*eventNamespace{}} }

// take reports whether there is to be an Event about an object; logged says that the log took the denial.
func (b *eventBudget) take(now time.Time, object corev1.ObjectReference, logged bool) bool {
	n := b.namespace(now, object.Namespace)
	if n == nil {
		return logged
	}
	key := keyOf(object)
	at, told := n.told[key]
	told = told && now.Sub(at) < eventsMemory
	if !logged && (told || !n.afford(now)) {
		return false
	}
	if len(n.told) >= maxEventObjects {
		n.forget(now)
	}
	if len(n.told) < maxEventObjects && !told {
		n.told[key] = now
	}
	return true
}

// namespace returns nil for a namespace that is new, if there are too many.
func (b *eventBudget) namespace(now time.Time, name string) *eventNamespace {
	if n := b.namespaces[name]; n != nil {
		return n
	}
	if len(b.namespaces) >= maxEventNamespaces {
		for name, n := range b.namespaces {
			if n.forget(now); len(n.told) == 0 && now.Sub(n.since) >= n.spent {
				delete(b.namespaces, name)
			}
		}
	}
	if len(b.namespaces) >= maxEventNamespaces {
		return nil
	}
	n := &eventNamespace{told: map[objectKey]time.Time{}}
	b.namespaces[name] = n
	return n
}

func (n *eventNamespace) afford(now time.Time) bool {
	if elapsed := now.Sub(n.since); elapsed > 0 {
		n.spent, n.since = max(0, n.spent-elapsed), now
	}
	if n.spent+eventsEvery > eventsBurst*eventsEvery {
		return false
	}
	n.spent += eventsEvery
	return true
}

// forget drops the objects whose last Event is gone by now.
func (n *eventNamespace) forget(now time.Time) {
	for key, at := range n.told {
		if now.Sub(at) >= eventsMemory {
			delete(n.told, key)
		}
	}
}
