package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SubjectKind is a kind of account that a grant can name.
// +kubebuilder:validation:Enum=ServiceAccount
type SubjectKind string

// SubjectServiceAccount is the account that pods run as.
const SubjectServiceAccount SubjectKind = "ServiceAccount"

// ModelGrantSpec says which workloads of the grant's namespace use a licence. It can only narrow the licence.
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
	// conditions are Ready, Reconciling and Stalled. Ready is True when the grant counts: its licence exists, names this
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

	// expires is when the licence ends, for `kubectl get`. Optional: a licence without notAfter does not end.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
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
// +kubebuilder:printcolumn:name="Subjects",type=string,JSONPath=`.spec.subjects[*].name`
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
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
