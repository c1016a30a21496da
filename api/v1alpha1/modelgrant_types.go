package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SubjectKind is a kind of account that a grant can name.
// +kubebuilder:validation:Enum=ServiceAccount
type SubjectKind string

// SubjectServiceAccount is the account that pods run as.
const SubjectServiceAccount SubjectKind = "ServiceAccount"

// ModelGrantSpec says which workloads of the grant's namespace use a licence. It can only narrow the licence.
//
// +kubebuilder:validation:XValidation:rule="!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter",message="notAfter must be later than notBefore"
type ModelGrantSpec struct {
	// licenseName is the ModelLicense that is granted. Whoever writes it needs the RBAC verb grant on that licence.
	// Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be the name of a ModelLicense: see kubectl get mlic"
	LicenseName string `json:"licenseName"`

	// subjects are the accounts that the pods run as. Required, 1 to 64 items.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=name
	Subjects []GrantSubject `json:"subjects"`

	// podSelector selects, among the pods that run as one of the subjects, those that the grant is for. It organises
	// and is no security boundary, since whoever creates a pod sets its labels. Optional: without it, every pod. At most
	// 16 matchLabels and 16 matchExpressions of at most 64 values.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])",message="matchExpressions[].operator must be In, NotIn, Exists or DoesNotExist"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",message="matchExpressions[].values must be given for the operators In and NotIn, and left out for Exists and DoesNotExist"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.all(k, !format.qualifiedName().validate(k).hasValue())",message="matchLabels must have keys as labels have them: a DNS name and '/' where there is a prefix, then at most 63 letters, digits, '-', '_' and '.'"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.all(k, !format.labelValue().validate(self.matchLabels[k]).hasValue())",message="matchLabels must have values as labels have them: nothing, or at most 63 letters, digits, '-', '_' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !format.qualifiedName().validate(e.key).hasValue())",message="matchExpressions[].key must be as labels' keys are: a DNS name and '/' where there is a prefix, then at most 63 letters, digits, '-', '_' and '.'"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !has(e.values) || e.values.all(v, !format.labelValue().validate(v).hasValue()))",message="matchExpressions[].values must be as labels' values are: nothing, or at most 63 letters, digits, '-', '_' and '.', with a letter or a digit first and last"
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// action is the technical use; the licence must allow it. Required.
	// +required
	Action Action `json:"action"`

	// purpose is the commercial use; the licence must allow it. Required.
	// +required
	Purpose Purpose `json:"purpose"`

	// limits bound what the pods under this grant use together, as the licence's terms.limits do for all; the licence's hold
	// besides. Optional, at most 8 items.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['pods', 'nodes', 'cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/') && !format.qualifiedName().validate(k).hasValue())",message="keys must be pods, nodes or a resource that pods request: cpu, memory, ephemeral-storage, or a device such as nvidia.com/gpu"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !string(self[k]).startsWith('-'))",message="quantities must not be negative"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k in ['pods', 'nodes']) && !k.contains('/') || quantity(string(self[k])).isInteger())",message="pods, nodes and devices are counted in whole numbers"
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// notBefore is the moment from which the grant counts, in RFC 3339. Optional: without it, at once.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`

	// notAfter is the moment from which the grant no longer counts, in RFC 3339, but for what gracePeriod allows. Optional:
	// without it, it counts as long as the licence holds.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// gracePeriod is for how long after the grant's notAfter running pods go on, at most 8760h; new ones are not admitted
	// then. Optional, default 0s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) <= duration('8760h')",message="must be a duration of hours, minutes and seconds from 0s to 8760h, for example 72h"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
}

// GrantSubject is an account that pods run as.
type GrantSubject struct {
	// kind is ServiceAccount. Optional, default ServiceAccount.
	// +optional
	// +default="ServiceAccount"
	Kind SubjectKind `json:"kind,omitempty"`

	// name is the account's name, in the grant's namespace. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a ServiceAccount in the grant's namespace; wildcards are not supported"
	Name string `json:"name"`
}

// ModelGrantStatus is what the operator found out about a grant.
type ModelGrantStatus struct {
	// conditions are Ready, ExpiringSoon, Reconciling and Stalled. Ready is True when the grant counts: its licence exists, names this
	// namespace, allows the action and the purpose, and is within its time. Optional.
	// +optional
	// +patchMergeKey=type
	// +patchStrategy=merge
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// observedGeneration is the generation of the spec that this status speaks of. Optional.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// expires is when the grant ends next, by its own time or its licence's, whichever comes first. Optional: empty where it
	// does not end.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`

	// seats says what is in use under the grant, and who waits. Optional.
	// +optional
	Seats *SeatStatus `json:"seats,omitempty"`

	// usage is what was used under the grant since it was created. Optional.
	// +optional
	Usage *UsageStatus `json:"usage,omitempty"`
}

// ModelGrant says which workloads of its namespace use a ModelLicense, and for what. It counts only if the licence
// names the namespace and whoever wrote its spec holds the RBAC verb grant on the licence.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=mgrant,categories=modelrights
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="License",type=string,JSONPath=`.spec.licenseName`
// +kubebuilder:printcolumn:name="Seats",type=string,JSONPath=`.status.seats.summary`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.seats.waiting`
// +kubebuilder:printcolumn:name="Subjects",type=string,JSONPath=`.spec.subjects[*].name`
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`,priority=1
// +kubebuilder:printcolumn:name="Purpose",type=string,JSONPath=`.spec.purpose`,priority=1
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expires`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ModelGrant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who uses which licence for what. Required.
	// +required
	Spec ModelGrantSpec `json:"spec"`

	// status is what the operator found out. Optional, written by the operator.
	// +optional
	Status ModelGrantStatus `json:"status,omitempty"`
}

// ModelGrantList is a list of grants.
//
// +kubebuilder:object:root=true
type ModelGrantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelGrant `json:"items"`
}
