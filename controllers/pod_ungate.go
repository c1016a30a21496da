package controllers

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// patchPodConditionOf is patchPodCondition of the licensed condition for a pod as it was read: where somebody wrote it since,
// it fails with a conflict. The pod is then as the API server has it.
func patchPodConditionOf(ctx context.Context, c client.Client, pod *corev1.Pod, condition *corev1.PodCondition) error {
	before := pod.DeepCopy()
	before.UID, before.ResourceVersion = "", "" // so that the patch names both
	setPodCondition(pod, condition.Type, condition)
	if err := c.Status().Patch(ctx, pod, client.StrategicMergeFrom(before)); err != nil {
		return fmt.Errorf("setting condition %s of pod %s/%s: %w", condition.Type, pod.Namespace, pod.Name, err)
	}
	return nil
}

// ungate removes our gate of a pod as it was read, and confines the pod to nodes in the same write. Where
// somebody wrote the pod since, it fails with a conflict. What is returned is the pod as the API server has it then.
func ungate(ctx context.Context, c client.Client, pod *corev1.Pod, confine [][]string) (*corev1.Pod, error) {
	hosts := make([][]string, len(confine))
	for i, nodes := range confine {
		var err error
		if hosts[i], err = hostnames(ctx, c, nodes); err != nil {
			return nil, err
		}
	}
	patch, err := ungatePatch(pod, hosts)
	if err != nil {
		return nil, err
	}
	after := &corev1.Pod{}
	after.Namespace, after.Name = pod.Namespace, pod.Name
	if err := c.Patch(ctx, after, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return nil, fmt.Errorf("removing the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return after, nil
}

// ungatePatch is a JSON merge patch (RFC 7386) that names the pod's UID and resourceVersion.
func ungatePatch(pod *corev1.Pod, hosts [][]string) ([]byte, error) {
	var others []corev1.PodSchedulingGate
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name != v1alpha1.SeatGate {
			others = append(others, gate)
		}
	}
	spec := map[string]any{"schedulingGates": others}
	if len(hosts) > 0 {
		spec["affinity"] = map[string]any{"nodeAffinity": map[string]any{
			"requiredDuringSchedulingIgnoredDuringExecution": confined(pod, hosts),
		}}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"spec":     spec,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	return patch, nil
}

// confined is the node affinity that a pod requires, and that it is on one of the hosts of each list. Of a gated pod the API
// server lets requirements be added to each term, and no term be added or removed; a term without requirements, which no
// node meets, stays as it is: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/#mutable-pod-scheduling-directives.
func confined(pod *corev1.Pod, hosts [][]string) *corev1.NodeSelector {
	required := &corev1.NodeSelector{}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		required = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.DeepCopy()
	}
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = []corev1.NodeSelectorTerm{{}}
		confineTerm(&required.NodeSelectorTerms[0], hosts)
		return required
	}
	for i := range required.NodeSelectorTerms {
		if term := &required.NodeSelectorTerms[i]; len(term.MatchExpressions)+len(term.MatchFields) > 0 {
			confineTerm(term, hosts)
		}
	}
	return required
}

func confineTerm(term *corev1.NodeSelectorTerm, hosts [][]string) {
	for _, names := range hosts {
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: names,
		})
	}
}

// hostnames are the labels by which pods select nodes of these names. A node that is gone, or has no such label, goes by its
// name.
func hostnames(ctx context.Context, c client.Reader, nodes []string) ([]string, error) {
	hosts := make([]string, len(nodes))
	for i, name := range nodes {
		hosts[i] = name
		var node corev1.Node
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &node, client.UnsafeDisableDeepCopy); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("reading node %s: %w", name, err)
		}
		if host := node.Labels[corev1.LabelHostname]; host != "" {
			hosts[i] = host
		}
	}
	return hosts, nil
}
