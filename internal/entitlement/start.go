package entitlement

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// NeedsGate says what the function of that name does, of a pod that was decided on.
func (d PodDecision) NeedsGate() bool { return d.gated() != nil }

// gated is the first use that makes a pod wait for a seat; nil where none does.
func (d PodDecision) gated() *UseDecision {
	for i := range d {
		if d[i].Enforcement == v1alpha1.EnforcementEnforce && d[i].Kind != images.UseEphemeralContainer {
			return &d[i]
		}
	}
	return nil
}

// HasGate says whether a pod waits for its seats.
func HasGate(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SeatGate })
}

// DecideStart says what keeps a new pod, on whose images was decided, from waiting for its seats, and from starting where
// its licences allow: it has no gate, it names its node, or it lacks a licence's node selector. Licences that relax ask for
// none of it. Where the images themselves are denied, nothing is added to that.
func DecideStart(pod Pod, decided PodDecision) []Refusal {
	use := decided.gated()
	if use == nil || len(decided.Denied()) > 0 {
		return nil
	}
	var refusals []Refusal
	switch {
	case pod.Spec.NodeName != "":
		refusals = append(refusals, Refusal{
			Field: "spec.nodeName", Reason: v1alpha1.ReasonNodeNameSet, License: use.licenseName(),
			Message: fmt.Sprintf("the pod names its node, and so would run without waiting for a seat of licence %s", use.licenseName()),
			Remedy:  "leave spec.nodeName out; choose the node by nodeSelector or affinity, as a DaemonSet does",
		})
	case !HasGate(pod.Spec):
		refusals = append(refusals, Refusal{
			Field: "spec.schedulingGates", Reason: v1alpha1.ReasonGateMissing, License: use.licenseName(),
			Message: fmt.Sprintf("the pod uses licence %s and lacks the scheduling gate %s, which the mutating webhook adds", use.licenseName(), v1alpha1.SeatGate),
			Remedy:  tryAgain,
		})
	}
	return append(refusals, lackingNodeSelectors(pod, decided, "which the mutating webhook adds", tryAgain)...)
}

// tryAgain is what to do about what the mutating webhook adds.
const tryAgain = "try again, as controllers do by themselves; if it persists, another mutating webhook removes it"

// newPod is what to do about what cannot come into a pod any more.
const newPod = "create a new pod with that image instead (a Deployment does so by itself)"

// lackingNodeSelectors: the pod has the node selectors of the licences that it uses.
func lackingNodeSelectors(pod Pod, decided PodDecision, note, remedy string) []Refusal {
	var refusals []Refusal
	for _, use := range decided.Licenses() {
		if Relaxed(use.License) {
			continue
		}
		terms := use.License.Spec.Terms.NodeSelector
		for _, key := range slices.Sorted(maps.Keys(terms)) {
			if got, ok := pod.Spec.NodeSelector[key]; !ok || got != string(terms[key]) {
				refusals = append(refusals, Refusal{
					Field: "spec.nodeSelector", Reason: v1alpha1.ReasonNodeSelectorMissing, License: use.License.Name,
					Message: fmt.Sprintf("the pod lacks %s=%s of licence %s in its nodeSelector, %s", key, terms[key], use.License.Name, note),
					Remedy:  remedy,
				})
			}
		}
	}
	return refusals
}

// RemovesGate says whether an update of a pod ends its wait for seats.
func RemovesGate(old, updated *corev1.PodSpec) bool { return HasGate(old) && !HasGate(updated) }

// DecideUngating refuses that the gate of a pod, on whose images was decided, is removed: by whoever is not the operator.
// Pods that need none any more may go on.
func DecideUngating(decided PodDecision) []Refusal {
	use := decided.gated()
	if use == nil {
		return nil
	}
	return []Refusal{{
		Field: "spec.schedulingGates", Reason: v1alpha1.ReasonGateRemoved, License: use.licenseName(),
		Message: fmt.Sprintf("the pod waits for a seat of licence %s, and the operator alone removes the scheduling gate %s", use.licenseName(), v1alpha1.SeatGate),
		Remedy:  fmt.Sprintf("leave the gate to the operator, which removes it when there is a seat (kubectl get mlic %s shows who holds them)", use.licenseName()),
	}}
}

// decideBeginning: what an update changes brings a licence only into a pod that waits, or has used it before: a pod that
// runs gets no seat any more. Where it is known which seats it holds, a licence has been used that it holds one of; that its
// image was covered by another as well, of which it needed none, is not enough. A pod that waits needs the licence's node selector, which nobody adds to it.
func decideBeginning(pod Pod, old *corev1.PodSpec, decided PodDecision, s *Snapshot) []Refusal {
	if HasGate(pod.Spec) {
		return lackingNodeSelectors(pod, decided, "which is added to new pods alone", newPod)
	}
	var refusals []Refusal
	for i := range decided {
		u := &decided[i]
		used := func() bool {
			return slices.Contains(pod.Seats, u.License.Name) || len(pod.Seats) == 0 && uses(old, u.License.Name, s)
		}
		if !u.Entitled() || Relaxed(u.License) || used() {
			continue
		}
		refusals = append(refusals, Refusal{
			Field: u.Field, Image: u.Image, Reason: v1alpha1.ReasonGateMissing, License: u.License.Name,
			Message: fmt.Sprintf("%s %s is to use licence %s in a pod that runs already and did not use it, and so has no seat", u.Kind, clip(u.Name), u.License.Name),
			Remedy:  newPod,
		})
	}
	return refusals
}

// uses says whether an image that the pod names is covered by the licence.
func uses(spec *corev1.PodSpec, licenseName string, s *Snapshot) bool {
	return slices.ContainsFunc(images.FromPod(spec), func(u images.Use) bool {
		if u.Confidence == images.Unresolved || u.Excess || u.Kind == images.UseEphemeralContainer {
			return false
		}
		var room [4]coverage
		_, found, _ := s.lookup(&Request{Image: u.Image, License: licenseName}, room[:0])
		return len(found) > 0
	})
}

// licenseName is the name of the licence that the decision speaks of; empty where there is none.
func (d *Decision) licenseName() string {
	if d.License == nil {
		return ""
	}
	return d.License.Name
}
