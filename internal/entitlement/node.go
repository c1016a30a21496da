package entitlement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// DecideNode says whether a node has the labels that the licence asks for; nil where it has. The labels must be the node's
// real ones: what the pod selects proves nothing, since whoever binds a pod may bind it anywhere.
func DecideNode(use LicenseUse, nodeLabels map[string]string) *Refusal {
	var lacking []string
	for _, key := range slices.Sorted(maps.Keys(use.License.Spec.Terms.NodeSelector)) {
		want := string(use.License.Spec.Terms.NodeSelector[key])
		if got, ok := nodeLabels[key]; !ok || got != want {
			lacking = append(lacking, key+"="+want)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return &Refusal{
		Field: "spec.nodeName", Reason: v1alpha1.ReasonNodeNotAllowed, License: use.License.Name,
		Message: fmt.Sprintf("licence %s is for nodes with the label %s, which this node does not have", use.License.Name, strings.Join(lacking, " and ")),
		Remedy:  fmt.Sprintf("run the pod on a node with these labels (terms.nodeSelector of ModelLicense %s), or ask %s to license others", use.License.Name, use.License.Spec.Licensor),
	}
}
