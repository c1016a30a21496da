package keyservice

import (
	"context"
	"fmt"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// AuditLog is the audit log, as the key service needs it: *audit.Log.
type AuditLog interface {
	// Append writes an entry and returns a nil error only once it is durable. After an error no key leaves.
	Append(ctx context.Context, entry audit.Entry) (index int64, err error)

	// Submit takes an entry and does not block: refusals may come by the thousand, from whoever reaches the port.
	Submit(entry audit.Entry)
}

// releaseEntry is what the log says of a key that is about to leave. It holds no byte of the key.
func releaseEntry(c *call) audit.Entry {
	return audit.Entry{
		Type:           audit.KeyReleased,
		Namespace:      c.pod.Namespace,
		Pod:            audit.ObjectOf(c.pod),
		Owner:          audit.OwnerOf(c.pod),
		ServiceAccount: c.pod.Spec.ServiceAccountName,
		Node:           c.driver.node,
		License:        audit.ObjectOf(c.use.License),
		Grant:          audit.ObjectOf(c.use.Grant),
		Keys:           c.use.KeyNames,
		Images:         c.use.Images,
		Reason:         v1alpha1.ReasonEntitled,
		Message: fmt.Sprintf("for containers %s, through node driver pod %s, volume %s",
			strings.Join(c.use.Containers, ", "), c.driver.podName, c.request.Volume.Handle),
		Actor: c.driver.username,
	}
}

// refusalEntry is what the log says of a refused call. It names the pod only as far as that is proven, by the pod's own
// confirmed token or by a live read: else whoever reaches the port could fill a namespace's share of the log in its
// name. What the caller claimed stands in the message.
func refusalEntry(c *call, e *protocol.Error) audit.Entry {
	v := &c.request.Volume
	entry := audit.Entry{
		Type:    audit.KeyRefused,
		Node:    c.driver.node,
		License: audit.Object{Name: v.License},
		Reason:  e.Reason,
		Message: e.Message,
		Actor:   c.driver.username,
	}
	switch {
	case c.pod != nil:
		entry.Namespace, entry.Pod, entry.Owner = c.pod.Namespace, audit.ObjectOf(c.pod), audit.OwnerOf(c.pod)
		entry.ServiceAccount = c.pod.Spec.ServiceAccountName
	case c.podHolder.podName != "":
		entry.Namespace = c.podHolder.namespace
		entry.Pod = audit.Object{Name: c.podHolder.podName, UID: c.podHolder.podUID}
		entry.ServiceAccount = c.podHolder.account
	default:
		entry.License = audit.Object{}
		entry.Message = fmt.Sprintf("%s (from %s)", e.Message, c.address)
		if *v != (protocol.Volume{}) {
			entry.Message = fmt.Sprintf("%s (from %s, of licence %q and pod %q in namespace %q)", e.Message, c.address, v.License, v.PodName, v.PodNamespace)
		}
	}
	if c.use.License != nil {
		entry.License = audit.ObjectOf(c.use.License)
	}
	return entry
}
