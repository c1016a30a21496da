package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Action is what a model is used for, technically.
// +kubebuilder:validation:Enum=Inference;FineTuning;Merge;Quantization;Distillation;Evaluation;Redistribution
type Action string

// The actions that a licence can allow and a grant can name.
const (
	ActionInference      Action = "Inference"
	ActionFineTuning     Action = "FineTuning"
	ActionMerge          Action = "Merge"
	ActionQuantization   Action = "Quantization"
	ActionDistillation   Action = "Distillation"
	ActionEvaluation     Action = "Evaluation"
	ActionRedistribution Action = "Redistribution"
)

// Purpose is what a model is used for, commercially.
// +kubebuilder:validation:Enum=Evaluation;Research;Internal;Commercial;HostedService
type Purpose string

// The purposes that a licence can allow and a grant can name.
const (
	PurposeEvaluation    Purpose = "Evaluation"
	PurposeResearch      Purpose = "Research"
	PurposeInternal      Purpose = "Internal"
	PurposeCommercial    Purpose = "Commercial"
	PurposeHostedService Purpose = "HostedService"
)

// CopyPolicy is what happens to a pod that runs an unlicensed copy of a model.
// +kubebuilder:validation:Enum=Report;Evict
type CopyPolicy string

// What can happen to a pod that runs an unlicensed copy.
const (
	CopyPolicyReport CopyPolicy = "Report"
	CopyPolicyEvict  CopyPolicy = "Evict"
)

// GraceAdmission is which new pods are admitted in the grace period.
// +kubebuilder:validation:Enum=None;All
type GraceAdmission string

// Which new pods can be admitted in the grace period.
const (
	GraceAdmitsNone GraceAdmission = "None"
	GraceAdmitsAll  GraceAdmission = "All"
)

// OveragePolicy is what happens to a pod for which there is no seat.
// +kubebuilder:validation:Enum=Queue;Deny
type OveragePolicy string

// What can happen to a pod for which there is no seat.
const (
	OverageQueue OveragePolicy = "Queue"
	OverageDeny  OveragePolicy = "Deny"
)

// RevocationPolicy is what happens to a running pod that loses its entitlement.
// +kubebuilder:validation:Enum=Evict;WipeKey
type RevocationPolicy string

// What can happen to a running pod that loses its entitlement.
const (
	RevokeEvict   RevocationPolicy = "Evict"
	RevokeWipeKey RevocationPolicy = "WipeKey"
)

// ExecPolicy is what happens to interactive access to pods that hold a key.
// +kubebuilder:validation:Enum=Allow;Audit;Deny
type ExecPolicy string

// What can happen to interactive access to pods that hold a key.
const (
	ExecAllow ExecPolicy = "Allow"
	ExecAudit ExecPolicy = "Audit"
	ExecDeny  ExecPolicy = "Deny"
)

// SurgeAllowance is a bounded excess of seats, for a bounded time, to old and new pods of one owner.
type SurgeAllowance struct {
	// pods is how many pods may have seats beyond the limits at the same time, 0 to 1000. Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Pods int32 `json:"pods"`

	// period is for how long a pod may hold a seat beyond the limits, 1m to 24h. After it the pod is treated as one that lost
	// its entitlement, unless there is room for it by then. Optional, default 10m.
	// +optional
	// +default="10m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="must be a duration of hours, minutes and seconds from 1m to 24h, for example 10m"
	Period *metav1.Duration `json:"period,omitempty"`
}

// NodeLabelValue is the value of a node's label.
// +kubebuilder:validation:MaxLength=63
type NodeLabelValue string

// LicenseTerms are the conditions under which the model may be used.
//
// +kubebuilder:validation:XValidation:rule="!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter",message="notAfter must be later than notBefore"
type LicenseTerms struct {
	// actions are the technical uses that are licensed: Inference, FineTuning, Merge, Quantization, Distillation,
	// Evaluation, Redistribution. Required, at least one.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	// +listType=set
	Actions []Action `json:"actions"`

	// purposes are the commercial uses that are licensed: Evaluation, Research, Internal, Commercial, HostedService.
	// Required, at least one.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=5
	// +listType=set
	Purposes []Purpose `json:"purposes"`

	// notBefore is the moment from which the licence holds, in RFC 3339. Optional: without it, it holds at once.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`

	// notAfter is the moment from which the licence no longer holds, in RFC 3339. From then on no pod is admitted and no
	// key released under it, but for what gracePeriod allows. Optional: without it, it does not expire.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// gracePeriod is for how long after notAfter running pods go on, at most 8760h. After it they lose the key as onRevoke
	// says. Optional, default 0s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) <= duration('8760h')",message="must be a duration of hours, minutes and seconds from 0s to 8760h, for example 72h"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`

	// graceAdmits is which new pods are admitted during gracePeriod: None, or All. Optional, default None.
	// +optional
	// +default="None"
	GraceAdmits GraceAdmission `json:"graceAdmits,omitempty"`

	// limits bound what the pods under the licence use together: pods, nodes (distinct nodes that they run on), and any
	// resource that pods request, such as nvidia.com/gpu, cpu or memory. Each pod counts with what the scheduler counts for
	// it. Optional: without it nothing is bounded, but seats are counted all the same. At most 8 items.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['pods', 'nodes', 'cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/') && !format.qualifiedName().validate(k).hasValue())",message="keys must be pods, nodes or a resource that pods request: cpu, memory, ephemeral-storage, or a device such as nvidia.com/gpu"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !string(self[k]).startsWith('-'))",message="quantities must not be negative"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k in ['pods', 'nodes']) && !k.contains('/') || quantity(string(self[k])).isInteger())",message="pods, nodes and devices are counted in whole numbers"
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// overage is what happens to a pod for which limits leave no room: Queue keeps it waiting, not scheduled, until there is
	// room; Deny refuses it. Optional, default Queue.
	// +optional
	// +default="Queue"
	Overage OveragePolicy `json:"overage,omitempty"`

	// surge allows pods of one owner beyond limits while a rollout replaces others of the same owner. Optional: without
	// it, a rollout stays within limits.
	// +optional
	Surge *SurgeAllowance `json:"surge,omitempty"`

	// nodeSelector are labels that the node of every pod under the licence must have. They are added to pods, and checked
	// again when a key is released. Optional, at most 16 items.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="keys must be as labels' keys are: a DNS name and '/' where there is a prefix, then at most 63 letters, digits, '-', '_' and '.'"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.labelValue().validate(self[k]).hasValue())",message="values must be as labels' values are: nothing, or at most 63 letters, digits, '-', '_' and '.', with a letter or a digit first and last"
	NodeSelector map[string]NodeLabelValue `json:"nodeSelector,omitempty"`

	// onRevoke is what happens to a running pod that loses its entitlement: WipeKey empties the key file on the node; Evict
	// does so too and ends the pod, through the eviction API, and by deletion where a disruption budget holds it for more
	// than two minutes. Optional, default Evict.
	// +optional
	// +default="Evict"
	OnRevoke RevocationPolicy `json:"onRevoke,omitempty"`

	// exec is what happens to exec and attach into pods that hold the key, and to ephemeral containers added to them: Allow,
	// Audit writes an audit entry and never blocks, Deny refuses. Optional, default Audit.
	// +optional
	// +default="Audit"
	Exec ExecPolicy `json:"exec,omitempty"`

	// leaseDuration is for how long a node that is cut off may keep a key, and a pod its seat, 1m to 24h. Nodes renew about
	// every 76 seconds, so less than 5m is for tests. Optional, default 1h.
	// +optional
	// +default="1h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="must be a duration of hours, minutes and seconds from 1m to 24h, for example 1h"
	LeaseDuration *metav1.Duration `json:"leaseDuration,omitempty"`

	// onCopy is what happens to a running pod whose image is a copy of a licensed one, under another name or built from
	// it, and which is not entitled to the licence: Report writes an audit entry, an Event and a condition; Evict ends the
	// pod too, through the eviction API, unless another licence entitles it. List images[].digests before you set Evict:
	// without them whatever is pushed to the repositories counts as the model. Optional, default Report.
	// +optional
	// +default="Report"
	OnCopy CopyPolicy `json:"onCopy,omitempty"`
}
