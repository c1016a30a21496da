package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// leaseSlack is added to a lease before a seat is taken for free: whoever decided on a renewal at the same time may have
	// been behind by so much.
	leaseSlack = time.Minute
	// reportGrace is how long the node's report of a pod that is gone is waited for before the seat is limited to the lease.
	// It only saves a write: the lease counts from when the pod was seen gone.
	reportGrace = 10 * time.Second
	// missingGrace is how long a pod may be unknown before it is asked for at the API server: the ledger may be known sooner
	// than the pod.
	missingGrace = 5 * time.Second
	// bindGrace is how long it may take until the ledger knows the node of a pod, where no limit counts nodes: mostly the
	// release of its key says so, without a write of its own.
	bindGrace = 10 * time.Second
)

// seatPod is what is known of the pod that holds a seat.
type seatPod struct {
	// there: its object exists. gone: it was there, and is deleted. Neither: it was never seen; absent says then that the API
	// server does not have it, though the ledger did before it was asked.
	there, gone, absent bool
	// since is when it was first seen to be gone or terminal, or missed, by this operator.
	since time.Time
	// The rest is as last seen. node is empty before the pod is bound. bound is when it was. started: a container of it may
	// have run. deletion is its deletionTimestamp.
	node     string
	bound    time.Time
	terminal bool
	started  bool
	deletion time.Time
	// waitsFor: it has no gate of ours any more, is not bound, and may only go to hosts that it names.
	waitsFor bool
}

// seatNode is what is known of the node that the pod is bound to.
type seatNode struct {
	// missing: the cache does not have it. absent: the API server does not either.
	missing, absent bool
	// outOfService is the taint by which an administrator vouches that nothing runs there.
	outOfService bool
	// unknown is since when its kubelet has not been heard of; zero where it is.
	unknown time.Time
}

// keyed says whether a licence has keys, without which no pod of it begins to run.
type keyed int

const (
	keysUnknown keyed = iota // the licence is gone, and was not seen before
	keysNone
	keysSome
)

// seatTerms is what of a licence decides on the ends of its seats.
type seatTerms struct {
	lease time.Duration
	keys  keyed
	// limitsNodes: the node of each pod matters at once.
	limitsNodes bool
}

// seatAction is what happens to a seat.
type seatAction int

const (
	seatStays seatAction = iota
	seatBinds
	seatExpires
	seatRenewed
	seatEnds
)

// seatVerdict is what happens to a seat now.
type seatVerdict struct {
	action seatAction
	// node is what seatBinds binds to, until when seatExpires limits the seat to.
	node  string
	until time.Time
	// at is when the seat that ends ended, reason and message what shows it, proven whether that proves that the pod's
	// containers have stopped.
	at      time.Time
	reason  v1alpha1.Reason
	message string
	proven  bool
	// rests is the holder's Until, where the end rests on that: it stands only as long as that does.
	rests time.Time
	// askPod and askNode want the API server to be asked whether the pod, or the node, exists.
	askPod, askNode bool
	// again is when to look again, though nothing else changes; zero: never.
	again time.Time
}

// decideSeat says what happens to a seat, as docs/decisions/0012 has it. A seat is rather held too long than given out twice:
// what is not known counts as running.
func decideSeat(h seats.Holder, pod seatPod, node seatNode, terms seatTerms, now time.Time) seatVerdict {
	if !pod.there && !pod.gone && !pod.absent {
		if due := pod.since.Add(missingGrace); now.Before(due) {
			return seatVerdict{again: due}
		}
		return seatVerdict{askPod: true}
	}
	if h.Node != "" || pod.node != "" {
		switch {
		case node.outOfService:
			return seatVerdict{action: seatEnds, at: now, reason: v1alpha1.ReasonNodeGone, message: "its node is marked as out of service"}
		case node.absent:
			return seatVerdict{action: seatEnds, at: now, reason: v1alpha1.ReasonNodeGone, message: "its Node object is gone"}
		case node.missing:
			return seatVerdict{askNode: true}
		}
	}
	if message, unreleased := neverReleased(h, pod, terms); message != "" {
		if unreleased && h.Until.IsZero() {
			return seatVerdict{action: seatExpires, until: pod.since.Add(terms.lease + leaseSlack)}
		}
		v := seatVerdict{action: seatEnds, at: now, reason: v1alpha1.ReasonPodGone, message: message, proven: true}
		if unreleased {
			v.rests = h.Until
		}
		return v
	}
	if pod.there && pod.node != "" && h.Node != pod.node {
		if due := pod.bound.Add(bindGrace); h.Node == "" && !terms.limitsNodes && !h.Released && now.Before(due) {
			return seatVerdict{again: due}
		}
		return seatVerdict{action: seatBinds, node: pod.node}
	}
	switch lost := !pod.there || pod.terminal; {
	case lost && h.Until.IsZero():
		if due := pod.since.Add(reportGrace); now.Before(due) {
			return seatVerdict{again: due}
		}
		return seatVerdict{action: seatExpires, until: pod.since.Add(terms.lease + leaseSlack)}
	case lost:
		return atLeaseEnd(h, h.Until, now)
	case overdue(pod.deletion, now):
		end := pod.deletion.Add(terms.lease + leaseSlack)
		if !h.Until.IsZero() && h.Until.Before(end) {
			end = h.Until
		}
		return atLeaseEnd(h, end, now)
	case pod.node == "": // whoever waits gives back the seat of a gated pod himself, by an end that must stay
		return seatVerdict{}
	case node.unknown.IsZero() && !h.Until.IsZero():
		return seatVerdict{action: seatRenewed}
	case node.unknown.IsZero():
		return seatVerdict{again: pod.deletion}
	case !h.Until.IsZero():
		return atLeaseEnd(h, h.Until, now)
	}
	if due := node.unknown.Add(terms.lease); now.Before(due) {
		return seatVerdict{again: due}
	}
	return seatVerdict{action: seatExpires, until: now.Add(terms.lease + leaseSlack)}
}

// neverReleased says why a pod without a key cannot run any more, or never did; empty where it may run. With unreleased that
// rests on the ledger alone, which another replica may just be marking as released: so the seat must be seen with an end
// set, since which no key is released for it.
func neverReleased(h seats.Holder, pod seatPod, terms seatTerms) (message string, unreleased bool) {
	bound := h.Node != "" || pod.node != ""
	switch {
	case h.Released: // its node reports, or its lease ends
	case !bound && (pod.gone || pod.there && !pod.deletion.IsZero()):
		return "it was deleted before it was bound to a node", false
	case pod.terminal:
		return "its containers have ended", false
	case !bound && pod.absent && terms.keys == keysSome:
		return "it is gone, and no key was released for it", true
	case pod.gone && !pod.started && terms.keys == keysSome:
		return "it was deleted before a key was released for it", true
	}
	return "", false
}

// atLeaseEnd ends a seat when its lease is over.
func atLeaseEnd(h seats.Holder, end, now time.Time) seatVerdict {
	if now.Before(end) {
		return seatVerdict{again: end}
	}
	v := seatVerdict{action: seatEnds, at: end, reason: v1alpha1.ReasonLeaseOver, message: "nothing shows that it has ended, but its lease is over"}
	if end.Equal(h.Until) {
		v.rests = h.Until
	}
	if end.Before(h.Since) {
		v.at = now
	}
	return v
}

// overdue says whether a pod should have ended by its deletionTimestamp, which is when its grace period is over.
func overdue(deletion, now time.Time) bool { return !deletion.IsZero() && !now.Before(deletion) }

// seenPod is a cached pod.
func seenPod(pod *corev1.Pod) seatPod {
	seen := seatPod{
		there: true, node: pod.Spec.NodeName, bound: pod.CreationTimestamp.Time,
		terminal: pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
		started:  pod.Status.Phase == corev1.PodRunning,
	}
	if condition := conditionOf(pod, corev1.PodScheduled); condition != nil && condition.Status == corev1.ConditionTrue {
		seen.bound = condition.LastTransitionTime.Time
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			seen.started = seen.started || statuses[i].ImageID != ""
		}
	}
	seen.waitsFor = waitsForHosts(pod)
	if pod.DeletionTimestamp != nil {
		seen.deletion = pod.DeletionTimestamp.Time
	}
	return seen
}

// seenNode is a cached node; nil where the cache has none.
func seenNode(node *corev1.Node) seatNode {
	if node == nil {
		return seatNode{missing: true}
	}
	var seen seatNode
	for i := range node.Spec.Taints {
		seen.outOfService = seen.outOfService || node.Spec.Taints[i].Key == corev1.TaintNodeOutOfService
	}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown {
			seen.unknown = c.LastTransitionTime.Time
		}
	}
	return seen
}
