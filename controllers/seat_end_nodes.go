package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/seats"
)

// strandedAgain is how soon a pod is looked at again that was not deleted, since it was not its turn or changed meanwhile.
const strandedAgain = time.Second

// decideOnNodes sees to it that no pod waits for nodes that are gone. Those in use for confined pods alone are forgotten
// first. Only when the ledger names no such node any more are pods deleted that may go to no other: what their owners make
// instead would else be confined to the same nodes.
func (p *seatPass) decideOnNodes(ctx context.Context, holders []seats.Holder) error {
	holders = slices.DeleteFunc(slices.Clone(holders), func(h seats.Holder) bool { return !h.Confined || h.Node != "" })
	if len(holders) == 0 {
		return nil
	}
	var gone []string
	for _, name := range p.ledger.Nodes() {
		p.watch(name)
		node, err := p.node(ctx, name)
		if err == nil && node.missing {
			err = p.askNode(ctx, name)
		}
		if err != nil {
			return err
		}
		if p.known[name].absent {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		p.changes = append(p.changes, seats.ForgetNodes{Nodes: gone})
	}
	known := map[string]bool{}
	for _, h := range holders {
		pod, _ := p.r.Pods.Pod(h.Pod)
		if pod == nil || !p.r.Pods.seen(h.Pod).waitsFor {
			continue
		}
		hosts := confinedTo(&pod.Spec)
		for _, host := range hosts {
			p.watch(host) // for when it goes, though the ledger does not name it
		}
		key := strings.Join(hosts, " ")
		exists, ok := known[key]
		if !ok {
			var err error
			if exists, err = p.anyHost(ctx, p.r.Client, hosts); err != nil {
				return err
			}
			known[key] = exists
		}
		if !exists && len(gone) == 0 {
			p.stranded = append(p.stranded, pod)
		}
	}
	return nil
}

// anyHost says whether a reader has a node of one of these host names. A node's name is taken for one, as hostnames does.
func (p *seatPass) anyHost(ctx context.Context, reader client.Reader, hosts []string) (bool, error) {
	for _, host := range hosts {
		err := reader.Get(ctx, client.ObjectKey{Name: host}, &corev1.Node{}, client.UnsafeDisableDeepCopy)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("reading node %s: %w", host, err)
		}
		if err == nil {
			return true, nil
		}
	}
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(host string) bool { return len(validation.IsValidLabelValue(host)) > 0 })
	if len(hosts) == 0 {
		return false, nil
	}
	isHost, err := labels.NewRequirement(corev1.LabelHostname, selection.In, hosts)
	if err != nil {
		return false, fmt.Errorf("selecting nodes by their host names: %w", err)
	}
	var nodes corev1.NodeList
	err = reader.List(ctx, &nodes, client.MatchingLabelsSelector{Selector: labels.NewSelector().Add(*isHost)}, client.Limit(1), client.UnsafeDisableDeepCopy)
	if err != nil {
		return false, fmt.Errorf("listing nodes by their host names: %w", err)
	}
	return len(nodes.Items) > 0, nil
}

// endStranded deletes pods that wait for nodes which are gone, so that their owners make others: the node affinity of a pod
// that is not gated cannot be changed.
func (p *seatPass) endStranded(ctx context.Context) error {
	var errs []error
	for _, known := range p.stranded {
		done, err := p.endIfStranded(ctx, known)
		if err != nil {
			errs = append(errs, err)
		}
		if !done {
			p.lookAgain(p.now.Add(strandedAgain))
		}
	}
	return errors.Join(errs...)
}

// endIfStranded does so where the API server has it that pod and nodes are as the cache says. Done is false where that is
// to be looked at again.
func (p *seatPass) endIfStranded(ctx context.Context, known *corev1.Pod) (done bool, err error) {
	pod := &corev1.Pod{}
	err = p.r.Live.Get(ctx, client.ObjectKeyFromObject(known), pod)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("reading pod %s/%s: %w", known.Namespace, known.Name, err)
	case pod.UID != known.UID || !waitsForHosts(pod) || !p.r.ender.ends(pod):
		return true, nil
	}
	hosts := confinedTo(&pod.Spec)
	if exists, err := p.anyHost(ctx, p.r.Live, hosts); err != nil || exists {
		return false, err
	}
	if p.r.ender.turn(p.now) == nil {
		return false, nil
	}
	// The version sees to it that it was not bound meanwhile.
	err = p.r.Client.Delete(ctx, pod.DeepCopy(), client.Preconditions(metav1.Preconditions{UID: ptr.To(pod.UID), ResourceVersion: ptr.To(pod.ResourceVersion)}))
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsConflict(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("deleting pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	strandedEvent(p.r.Events, pod, fmt.Sprintf("deleted, so that its owner makes another: it was confined to nodes that ModelLicense %s was in use on, and none of them exists any more: %s",
		p.ledger.License(), strings.Join(hosts, ", ")))
	return true, nil
}

// waitsForHosts says whether a pod is to be scheduled, to hosts that it names.
func waitsForHosts(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && !isGated(pod) && pod.DeletionTimestamp.IsZero() &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && len(confinedTo(&pod.Spec)) > 0
}

// confinedTo are the host names of the nodes that a pod may go to, by the node affinity that it requires; none where it may
// go to others, or where its requirements exclude each other.
func confinedTo(spec *corev1.PodSpec) []string {
	a := spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	var all []string
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			continue // no node meets it
		}
		var hosts []string
		named := false
		for _, e := range term.MatchExpressions {
			switch {
			case e.Key != corev1.LabelHostname || e.Operator != corev1.NodeSelectorOpIn:
			case named:
				hosts = slices.DeleteFunc(hosts, func(host string) bool { return !slices.Contains(e.Values, host) })
			default:
				hosts, named = slices.Clone(e.Values), true
			}
		}
		if !named {
			return nil
		}
		all = append(all, hosts...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
