package webhooks

import (
	"maps"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// startPatch is the JSON patch (RFC 6902) that makes a new pod wait for its seats, and start where its licences allow: the
// scheduling gate, whether it is entitled or not, and the node selectors of the licences that it is entitled to. What the
// pod has already is left as it is. A pod that names its node gets no gate, since the API server takes none with both: it
// is denied by the validating webhook, which says why.
func startPatch(pod *corev1.Pod, decided entitlement.PodDecision) []jsonpatch.Operation {
	var patch []jsonpatch.Operation
	if decided.NeedsGate() && pod.Spec.NodeName == "" && !entitlement.HasGate(&pod.Spec) {
		gated := append(slices.Clone(pod.Spec.SchedulingGates), corev1.PodSchedulingGate{Name: v1alpha1.SeatGate})
		patch = appended(patch, "/spec/schedulingGates", pod.Spec.SchedulingGates, gated)
	}
	added := map[string]string{}
	for _, use := range decided.Licenses() {
		for key, value := range use.License.Spec.Terms.NodeSelector {
			_, own := pod.Spec.NodeSelector[key]
			if _, known := added[key]; !own && !known {
				added[key] = string(value)
			}
		}
	}
	switch {
	case len(added) == 0:
	case len(pod.Spec.NodeSelector) == 0:
		patch = append(patch, jsonpatch.NewOperation("add", "/spec/nodeSelector", added))
	default:
		for _, key := range slices.Sorted(maps.Keys(added)) {
			patch = append(patch, jsonpatch.NewOperation("add", "/spec/nodeSelector/"+escapePointer(key), added[key]))
		}
	}
	return patch
}

// escapePointer makes a key a token of a JSON pointer (RFC 6901).
func escapePointer(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }
