package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// seatNodes knows which nodes can be counted on. A pod without a seat on one that cannot is given none: that would end
// again. It is safe for concurrent use, and counts on all nodes when it is zero.
type seatNodes struct {
	mu     sync.Mutex
	states map[string]seatNode
	synced func() bool
}

// watch follows the nodes. Back is called when one can be counted on that could not before.
func (n *seatNodes) watch(ctx context.Context, informers cache.Informers, back func()) error {
	informer, err := informers.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("informer for nodes: %w", err)
	}
	note := func(object any, gone bool) {
		if n.note(object, gone) {
			back()
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { note(o, false) },
		UpdateFunc: func(_, o any) { note(o, false) },
		DeleteFunc: func(o any) { note(o, true) },
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.synced = registration.HasSynced
	return nil
}

// note takes notice of a node, and says whether it can be counted on again.
func (n *seatNodes) note(object any, gone bool) (back bool) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	node, ok := object.(*corev1.Node)
	if !ok {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if gone {
		delete(n.states, node.Name)
		return false
	}
	before, known := n.states[node.Name]
	after := seenNode(node)
	if n.states == nil {
		n.states = map[string]seatNode{}
	}
	n.states[node.Name] = after
	counts := func(s seatNode) bool { return !s.outOfService && s.unknown.IsZero() }
	return counts(after) && (!known || !counts(before))
}

// lost says whether a node is gone or out of service, or has not been heard of for the lease.
func (n *seatNodes) lost(name string, lease time.Duration, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name == "" || n.synced == nil || !n.synced() {
		return false
	}
	node, known := n.states[name]
	return !known || node.outOfService || !node.unknown.IsZero() && !now.Before(node.unknown.Add(lease))
}
