package plugin

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/plugin/view"
)

// Verdict is what became of a reference, or of all references of a pod.
type Verdict string

// The verdicts. Of several, the first in this order that any reference has is that of the pod.
const (
	// Refused: a pod with the reference is denied at admission and gets no key.
	Refused Verdict = "Refused"
	// Unknown: it cannot be told, since not everything could be read that the decision depends on.
	Unknown Verdict = "Unknown"
	// Unresolved: the reference holds a placeholder, so that nobody can tell what will be run.
	Unresolved Verdict = "Unresolved"
	// Entitled: a licence and a grant cover the use.
	Entitled Verdict = "Entitled"
	// NotGoverned: neither a licence nor the installation speaks of the image.
	NotGoverned Verdict = "NotGoverned"
)

// ExplanationList is what kubectl modelrights explain prints.
type ExplanationList struct {
	metav1.TypeMeta `json:",inline"`
	// Items explain the pods of one template each, in the order in which they were named or stand in the manifests.
	Items []Explanation `json:"items"`
	// GovernedRepositories are governed whether or not a licence covers them.
	GovernedRepositories []string `json:"governedRepositories,omitempty"`
	// ExemptNamespaces are those whose pods are not looked at when they are created.
	ExemptNamespaces []string `json:"exemptNamespaces,omitempty"`
	// Limits are what the user could not see, and who can change that.
	Limits []view.Limit `json:"limits,omitempty"`
	// Errors are the documents and files that could not be read.
	Errors []ReadError `json:"errors,omitempty"`
}

// Explanation says of the pods of one template what is decided on the images they name.
type Explanation struct {
	// Object is the pod, or the object that makes pods.
	Object ObjectReference `json:"object"`
	// Origin says where the object was read.
	Origin `json:",inline"`
	// Template is the path of the pod template in the object; empty for a pod.
	Template string `json:"template,omitempty"`
	// Namespace and ServiceAccount are those of the pods.
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	// NamespaceExempt says that pods of the namespace are not looked at when they are created. Keys are released to
	// entitled pods alone, there as everywhere.
	NamespaceExempt bool `json:"namespaceExempt,omitempty"`
	// Verdict is the gravest of the references' verdicts.
	Verdict Verdict `json:"verdict"`
	// References are the places that name an image, in the order in which they stand in the object.
	References []ExplainedReference `json:"references"`
	// Volumes are key volumes that are refused, whoever wrote them.
	Volumes []RefusedField `json:"volumes,omitempty"`
	// Fields are other fields of pods that are yet to be made which are refused.
	Fields []RefusedField `json:"fields,omitempty"`
	// Admission is what the operator logged of a pod of the cluster.
	Admission *Admission `json:"admission,omitempty"`
}

// ExplainedReference is a place that names an image, and the decision on it, check by check.
type ExplainedReference struct {
	// Path is the path of the field in the object.
	Path string `json:"path"`
	// Place is the kind of place, such as container, and Name the container or the volume, where that can be said.
	Place string `json:"place,omitempty"`
	Name  string `json:"name,omitempty"`
	// Confidence is as in an ImageReference.
	Confidence string `json:"confidence"`
	// Verdict is what became of it.
	Verdict Verdict `json:"verdict"`
	// Doubt says why the verdict is Unknown. Reason and message are then those of what could be seen.
	Doubt string `json:"doubt,omitempty"`
	// Original is the reference as it stands in the object where the operator completes it with the digest of its tag, so
	// that the decision is on another one.
	Original string `json:"original,omitempty"`
	// The decision.
	entitlement.Explanation `json:",inline"`
}

// RefusedField is a field that a pod may not have as it is, such as a volume of our CSI driver.
type RefusedField struct {
	Path    string            `json:"path"`
	License string            `json:"license,omitempty"`
	Reason  string            `json:"reason"`
	Message string            `json:"message"`
	Remedy  string            `json:"remedy,omitempty"`
	Fixer   entitlement.Fixer `json:"fixer,omitempty"`
}

// Admission is what is recorded of a pod of the cluster.
type Admission struct {
	// Condition is the pod's condition modelrights.dev/Licensed; nil where the pod has none.
	Condition *Condition `json:"condition,omitempty"`
	// Copy is the pod's condition modelrights.dev/Copy; nil where it is not known to run a copy of a licensed image.
	Copy *Condition `json:"copy,omitempty"`
	// KeyVolumes are the pod's volumes that bring keys.
	KeyVolumes []KeyVolume `json:"keyVolumes,omitempty"`
	// Events are those of modelrights about the pod, the oldest first. They are kept for an hour.
	Events []Event `json:"events,omitempty"`
}

// Condition is a condition of a pod.
type Condition struct {
	Status  string      `json:"status"`
	Reason  string      `json:"reason,omitempty"`
	Message string      `json:"message,omitempty"`
	Since   metav1.Time `json:"since"`
}

// KeyVolume is a volume that brings the key of a licence.
type KeyVolume struct {
	Name       string   `json:"name"`
	License    string   `json:"license"`
	Containers []string `json:"containers,omitempty"`
}

// Event is an Event of modelrights, or of a kubelet about a key volume.
type Event struct {
	Time    metav1.Time `json:"time"`
	Type    string      `json:"type"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Count   int         `json:"count,omitempty"`
}

// gravest is the one of the verdicts that comes first in their order.
func gravest(a, b Verdict) Verdict {
	for _, v := range []Verdict{Refused, Unknown, Unresolved, Entitled} {
		if a == v || b == v {
			return v
		}
	}
	return NotGoverned
}
