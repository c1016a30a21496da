package keyservice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seatend"
	"modelrights.dev/modelrights/internal/seats"
)

// nodeReport is one report of a driver.
type nodeReport struct {
	driver  holder
	request protocol.ReportRequest

	ledger *seats.Ledger
	held   seats.Holder
	// pod is the pod if it is still there, nil otherwise.
	pod *corev1.Pod
}

// report takes what a driver says of a key on its node. Nil means that it is done, now or before.
func (r *Releaser) report(ctx context.Context, c *nodeReport) *protocol.Error {
	if refusal := r.findHolder(ctx, c); refusal != nil {
		return refusal
	}
	if refusal := r.findPod(ctx, c); refusal != nil {
		return refusal
	}
	if c.request.Event == protocol.Unpublished {
		return r.endSeat(ctx, c)
	}
	return r.noteWiped(ctx, c)
}

// findHolder: the pod, by its UID, holds a seat of the licence, in the namespace that the report names and on the caller's node.
// The cache is believed that it does; that it does not, only the API server.
func (r *Releaser) findHolder(ctx context.Context, c *nodeReport) *protocol.Error {
	v := &c.request.Volume
	c.ledger = r.Ledgers.Ledger(v.License)
	if c.isHolder() {
		return nil
	}
	if wait := r.rates.reported().Take(r.Clock.Now(), c.driver.node); wait > 0 {
		return tooManyRequests(wait, "node %s reports too much that has to be looked up", c.driver.node)
	}
	var stored v1alpha1.ModelSeats
	err := r.Reader.Get(ctx, types.NamespacedName{Name: v.License}, &stored)
	if client.IgnoreNotFound(err) != nil {
		return lookupFailed("the licence's seat ledger", err)
	}
	if err == nil {
		if c.ledger, err = seats.Decode(&stored); err != nil {
			return lookupFailed("the licence's seat ledger", err)
		}
		if c.isHolder() {
			return nil
		}
	}
	return refuse(v1alpha1.ReasonNotHolder, "nothing is to be done, unless it persists: then look at the node driver of that node",
		"no pod with UID %s in namespace %q holds a seat of licence %q on node %s", v.PodUID, v.PodNamespace, v.License, c.driver.node)
}

func (c *nodeReport) isHolder() (ok bool) {
	c.held, ok = seatOf(c.ledger, types.UID(c.request.Volume.PodUID))
	return ok && c.held.Node == c.driver.node && c.held.Grant.Namespace == c.request.Volume.PodNamespace
}

// findPod finds the pod. The cache is believed that it ends; that it goes on or is gone, and what stands on it, only the
// API server. One of another UID is another pod; before that frees a seat, the holder is looked for by its UID, since the
// ledger knows no pod's name and the report could name another's.
func (r *Releaser) findPod(ctx context.Context, c *nodeReport) *protocol.Error {
	var err error
	if c.request.Event == protocol.Unpublished {
		c.pod, err = findPod(ctx, r.Cached, &c.request.Volume)
	}
	if err == nil && (c.pod == nil || !isEnding(c.pod)) {
		c.pod, err = findPod(ctx, r.Reader, &c.request.Volume)
	}
	if err == nil && c.pod == nil && c.request.Event == protocol.Unpublished {
		if wait := r.rates.reported().Take(r.Clock.Now(), c.driver.node); wait > 0 {
			return tooManyRequests(wait, "node %s reports too much that has to be looked up", c.driver.node)
		}
		c.pod, err = r.findPodByUID(ctx, c.held.Grant.Namespace, c.held.Node, c.held.Pod)
	}
	if err != nil {
		return lookupFailed("the pod", err)
	}
	return nil
}

// findPodByUID asks the API server for a pod of whatever name, among those of its namespace on a node.
func (r *Releaser) findPodByUID(ctx context.Context, namespace, node string, uid types.UID) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := r.Reader.List(ctx, &pods, client.InNamespace(namespace), client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pods.Items[i].UID == uid {
			return &pods.Items[i], nil
		}
	}
	return nil, nil
}

func findPod(ctx context.Context, from client.Reader, v *protocol.Volume) (*corev1.Pod, error) {
	var pod corev1.Pod
	err := from.Get(ctx, types.NamespacedName{Namespace: v.PodNamespace, Name: v.PodName}, &pod, client.UnsafeDisableDeepCopy)
	if err != nil || string(pod.UID) != v.PodUID {
		return nil, client.IgnoreNotFound(err)
	}
	return &pod, nil
}

// isEnding says whether a pod is deleted or has ended.
func isEnding(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil || hasEnded(pod) }

// endSeat ends the seat of a pod whose volume was taken down, unless the pod goes on: kubelet can take a volume down and
// bring it back. What was used is in the audit log before the seat is free.
func (r *Releaser) endSeat(ctx context.Context, c *nodeReport) *protocol.Error {
	if c.pod != nil && !isEnding(c.pod) {
		e := refuse(v1alpha1.ReasonPodRuns, "it is reported again until the pod's end is known",
			"pod %s/%s has not ended by what the API server knows", c.pod.Namespace, c.pod.Name)
		e.Temporary = true
		return e
	}
	end := seatend.End{
		Pod: c.held.Pod, At: r.happened(c), Object: c.pod, Reason: v1alpha1.ReasonUnpublished,
		Message: fmt.Sprintf("node driver pod %s took volume %s down", c.driver.podName, c.request.Volume.Handle),
	}
	for _, entry := range seatend.Entries(c.ledger, end) {
		entry.Actor = c.driver.username
		if _, err := r.Audit.Append(ctx, entry); err != nil {
			return auditUnavailable(err)
		}
	}
	if _, err := r.Seats.Do(ctx, c.request.Volume.License, end.Change()); err != nil {
		return lookupFailed("the licence's seat ledger", err)
	}
	return nil
}

// happened is when what is reported happened, by the API server's clock: as long ago as the driver says, if that is no
// longer than reports are kept.
func (r *Releaser) happened(c *nodeReport) time.Time {
	return r.Clock.Now().Add(-c.age())
}

func (c *nodeReport) age() time.Duration {
	const most = 2 * protocol.MaxLease
	return time.Duration(min(max(0, c.request.AgeMilliseconds), most.Milliseconds())) * time.Millisecond
}

// noteWiped notes that the key of a pod is gone from its node while the pod is there.
func (r *Releaser) noteWiped(ctx context.Context, c *nodeReport) *protocol.Error {
	if c.held.Wiped {
		return nil
	}
	if _, err := r.Audit.Append(ctx, wipedEntry(c)); err != nil {
		return auditUnavailable(err)
	}
	if _, err := r.Seats.Do(ctx, c.request.Volume.License, seats.Wipe{Pod: c.held.Pod}); err != nil {
		return lookupFailed("the licence's seat ledger", err)
	}
	if c.pod != nil {
		r.event(c.pod, corev1.EventTypeWarning, v1alpha1.ReasonKeyWiped, fmt.Sprintf("the key of licence %s was wiped on node %s: %s",
			c.request.Volume.License, c.driver.node, c.reason()))
	}
	return nil
}

// reason is why a key was wiped, as far as the driver says so.
func (c *nodeReport) reason() v1alpha1.Reason {
	if c.request.Reason == "" {
		return v1alpha1.ReasonRevoked
	}
	return c.request.Reason
}

// wipedEntry is what the log says of a key that was wiped.
func wipedEntry(c *nodeReport) audit.Entry {
	e := audit.Entry{
		Type:      audit.KeyWiped,
		Namespace: c.held.Grant.Namespace,
		Pod:       audit.Object{UID: string(c.held.Pod)},
		Node:      c.driver.node,
		License:   audit.Object{Name: c.ledger.License(), UID: string(c.ledger.LicenseUID()), Generation: c.ledger.Generation()},
		Grant:     audit.Object{Name: c.held.Grant.Name, UID: string(c.held.Grant.UID)},
		Reason:    c.reason(),
		Message:   fmt.Sprintf("by node driver pod %s, volume %s", c.driver.podName, c.request.Volume.Handle),
		Actor:     c.driver.username,
	}
	if c.pod != nil {
		e.Pod, e.Owner, e.ServiceAccount = audit.ObjectOf(c.pod), audit.OwnerOf(c.pod), c.pod.Spec.ServiceAccountName
	}
	return e
}

// revokedAgo is how long after its revocation a pod's key was wiped. Keys whose lease was over, and pods of which no
// revocation is known, have none.
func (r *Releaser) revokedAgo(c *nodeReport) (time.Duration, bool) {
	if c.request.Event != protocol.Wiped || c.held.Wiped || c.pod == nil || c.reason() == v1alpha1.ReasonLeaseEnded {
		return 0, false
	}
	at, ok := revokedAt(c.pod)
	return max(0, r.happened(c).Sub(at)), ok
}

// revokedAt is when the controller wrote on a pod that it lost its entitlement: by the annotation with which it called
// kubelet's attention to that, and where it called again since, by the condition, which has whole seconds.
func revokedAt(pod *corev1.Pod) (time.Time, bool) {
	condition := licensed(pod)
	if !isRevoked(condition) {
		return time.Time{}, false
	}
	second := condition.LastTransitionTime.Time
	at, err := time.Parse(time.RFC3339Nano, pod.Annotations[v1alpha1.AnnotationAttention])
	if err != nil || at.Before(second) || !at.Before(second.Add(time.Second)) {
		return second, true
	}
	return at, true
}
