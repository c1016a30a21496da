package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// isLost says whether a pod that is bound, and holds no seat, is not to be given one, since that would end again: its node
// is gone or out of service, or has not been heard of for longer than the lease, or the pod should have ended a lease ago.
// When the node is heard of again (nodeIsBack), its pods are to be looked at again.
func isLost(ctx context.Context, cached, live client.Reader, pod *corev1.Pod, lease time.Duration, now time.Time) (bool, error) {
	if pod.DeletionTimestamp != nil && !now.Before(pod.DeletionTimestamp.Add(lease+leaseSlack)) {
		return true, nil
	}
	if pod.Spec.NodeName == "" {
		return false, nil
	}
	for _, reader := range []client.Reader{cached, live} {
		var node corev1.Node
		err := reader.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, &node)
		if err == nil {
			return nodeIsLost(seenNode(&node), lease, now), nil
		}
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading node %s: %w", pod.Spec.NodeName, err)
		}
	}
	return true, nil
}

func nodeIsLost(node seatNode, lease time.Duration, now time.Time) bool {
	return node.outOfService || !node.unknown.IsZero() && !now.Before(node.unknown.Add(lease))
}

// nodeIsBack says whether a node can be counted on again that could not before. Before is nil for a node that is new.
func nodeIsBack(before, after *corev1.Node) bool {
	was, is := seenNode(before), seenNode(after)
	return (was.missing || was.outOfService || !was.unknown.IsZero()) && !is.outOfService && is.unknown.IsZero()
}
