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

// EnforcementMode is how admission deals with pods that are not entitled.
// +kubebuilder:validation:Enum=Enforce;Warn;Audit
type EnforcementMode string

// How admission can deal with pods that are not entitled.
const (
	EnforcementEnforce EnforcementMode = "Enforce"
	EnforcementWarn    EnforcementMode = "Warn"
	EnforcementAudit   EnforcementMode = "Audit"
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

// ModelLicenseSpec is what a licensor permits: which images, on which terms, in which namespaces, opened by which keys.
//
// +kubebuilder:validation:XValidation:rule="!has(self.keys) || self.images.all(i, !has(i.keyName) || self.keys.exists(k, k.name == i.keyName))",message="images[].keyName must be the name of one of spec.keys: add the key or correct the name"
// +kubebuilder:validation:XValidation:rule="has(self.keys) || self.images.all(i, !has(i.keyName))",message="images[].keyName names a key, but spec.keys is missing: add the key"
// +kubebuilder:validation:XValidation:rule="!has(self.keys) || size(self.keys) == 1 || self.images.all(i, has(i.keyName))",message="images[].keyName is required where spec.keys has several keys: say for each image which key opens it"
type ModelLicenseSpec struct {
	// licensor is who grants the licence, as a DNS name, for example acme.example. It is shown in denials, so that
	// engineers know whom to ask. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be a DNS name in lower case, for example acme.example"
	Licensor string `json:"licensor"`

	// model says which model is licensed. Required.
	// +required
	Model ModelIdentity `json:"model"`

	// images are the repositories that hold the model. A pod that references one of them needs a grant of this licence.
	// Required, 1 to 32 items.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=repository
	Images []LicensedImage `json:"images"`

	// terms are the conditions of use. Required.
	// +required
	Terms LicenseTerms `json:"terms"`

	// allowedNamespaces are the namespaces in which grants of this licence count. Required.
	// +required
	AllowedNamespaces AllowedNamespaces `json:"allowedNamespaces"`

	// keys open the sealed model. Without any, pods are admitted but no key is delivered, and the licence is not Ready.
	// Optional, at most 8 items.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	Keys []ModelKey `json:"keys,omitempty"`

	// pinDigests makes every pod that uses the licence name its images by digest: tags that the operator has resolved are
	// completed with their digest, and a pod that names none is refused. Optional, default false; images with digests are
	// always pinned.
	// +optional
	PinDigests *bool `json:"pinDigests,omitempty"`

	// suspended stops the licence for the time being: no pod is admitted and no key released under it, and running pods
	// lose the key as terms.onRevoke says. Optional, default false.
	// +optional
	Suspended *bool `json:"suspended,omitempty"`

	// enforcement is how admission deals with pods that are not entitled: Enforce refuses them; Warn admits them with a
	// warning, an Event and an audit entry; Audit admits them with an audit entry. It relaxes admission alone: the key
	// service always enforces. Optional, default Enforce.
	// +optional
	// +default="Enforce"
	Enforcement EnforcementMode `json:"enforcement,omitempty"`

	// pullSecretRef is the Secret of type kubernetes.io/dockerconfigjson in the operator's namespace with which the
	// operator reads manifests of images, to resolve tags and to recognise copies. It is used for the hosts of images
	// alone. Optional: without it, manifests are read anonymously.
	// +optional
	PullSecretRef *PullSecretReference `json:"pullSecretRef,omitempty"`
}

// PullSecretReference names a Secret of type kubernetes.io/dockerconfigjson in the operator's namespace.
type PullSecretReference struct {
	// name is the Secret's name. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret in the operator's namespace: lower case letters, digits, '-' and '.'"
	Name string `json:"name"`
}

// ModelIdentity names a model as its licensor does.
type ModelIdentity struct {
	// name is the licensor's name of the model, for example chat-7b. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9._ /-]*[A-Za-z0-9])?$')",message="must begin and end with a letter or a digit and hold nothing but letters, digits, spaces and . _ / - between, for example chat-7b"
	Name string `json:"name"`

	// version is the licensor's version of the model, for example "2.1". Optional: without it every version is meant.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9])?$')",message="must begin and end with a letter or a digit and hold nothing but letters, digits and . _ + - between, for example 2.1"
	Version string `json:"version,omitempty"`
}

// LicensedImage is a repository, or a pattern of repositories, that holds the licensed model.
type LicensedImage struct {
	// repository is the image repository without tag and digest, registry host included, for example
	// registry.example.com/models/chat-7b. A path component may be * (any one component) or ** (any number of
	// components); the host is literal. Required.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="!self.contains('@')",message="must not hold a digest: write the repository alone, for example registry.example.com/models/chat-7b"
	// +kubebuilder:validation:XValidation:rule="self.contains('@') || !self.matches('/[^/]*:[^/]*$')",message="must not hold a tag: write the repository alone, for example registry.example.com/models/chat-7b"
	// +kubebuilder:validation:XValidation:rule="self.contains('@') || self.matches('/[^/]*:[^/]*$') || !self.matches('^sha(256|384|512):') && self.matches('^([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*[.][a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*|(localhost|[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+)(:[0-9]+)?|[a-z0-9]([a-z0-9-]*[a-z0-9])?:[0-9]+|\\\\[[0-9a-f:]+\\\\](:[0-9]+)?)(/([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*|[*]|[*][*]))+$')",message="must be HOST/PATH in lower case with a registry host (example.com, localhost or host:port); a path component may be * or **, for example registry.example.com/models/*"
	// +kubebuilder:validation:XValidation:rule="self.split('/').filter(c, c == '**').size() <= 2",message="must have at most two components **"
	Repository string `json:"repository"`

	// mirrors are further repositories that hold the same image, written as repository is, for example a pull-through
	// cache. They are governed like the repository itself. Optional, at most 8 items.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=3
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:XValidation:rule="!self.contains('@')",message="must not hold a digest: write the repository alone, for example registry.example.com/models/chat-7b"
	// +kubebuilder:validation:items:XValidation:rule="self.contains('@') || !self.matches('/[^/]*:[^/]*$')",message="must not hold a tag: write the repository alone, for example registry.example.com/models/chat-7b"
	// +kubebuilder:validation:items:XValidation:rule="self.contains('@') || self.matches('/[^/]*:[^/]*$') || !self.matches('^sha(256|384|512):') && self.matches('^([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*[.][a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*|(localhost|[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+)(:[0-9]+)?|[a-z0-9]([a-z0-9-]*[a-z0-9])?:[0-9]+|\\\\[[0-9a-f:]+\\\\](:[0-9]+)?)(/([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*|[*]|[*][*]))+$')",message="must be HOST/PATH in lower case with a registry host (example.com, localhost or host:port); a path component may be * or **, for example registry.example.com/models/*"
	// +kubebuilder:validation:items:XValidation:rule="self.split('/').filter(c, c == '**').size() <= 2",message="must have at most two components **"
	// +listType=set
	Mirrors []string `json:"mirrors,omitempty"`

	// digests are the manifests, or indexes of manifests, that are the model, as sha256:HEX. If given, pods must name one
	// of them, or one of an index's platforms, by digest; tags that the operator has resolved to one are completed with
	// it. Everything else in the repository is refused. Optional, at most 64 items.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=71
	// +kubebuilder:validation:items:MaxLength=71
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^sha256:[0-9a-f]{64}$')",message="must be sha256: and 64 hexadecimal digits in lower case: the digest of an image's manifest or index"
	// +listType=set
	Digests []string `json:"digests,omitempty"`

	// keyName is which of spec.keys opens this image. Optional where spec.keys has a single key.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	KeyName string `json:"keyName,omitempty"`
}

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

// AllowedNamespaces says in which namespaces a licence may be granted, as Gateway API's allowedRoutes does for routes.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) != has(self.selector)",message="set exactly one of names (a list of namespaces) and selector (a label selector for namespaces)"
type AllowedNamespaces struct {
	// names are the namespaces, literally. Optional, 1 to 256 items; exactly one of names and selector is set.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be the name of a namespace, without wildcards: to name many, use selector instead of names"
	// +listType=set
	Names []string `json:"names,omitempty"`

	// selector selects namespaces by their labels; an empty selector selects every namespace. Whoever may label a
	// namespace decides then. Optional; exactly one of names and selector is set. At most 16 matchLabels and 16
	// matchExpressions of at most 64 values.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])",message="matchExpressions[].operator must be In, NotIn, Exists or DoesNotExist"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",message="matchExpressions[].values must be given for the operators In and NotIn, and left out for Exists and DoesNotExist"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.all(k, !format.qualifiedName().validate(k).hasValue())",message="matchLabels must have keys as labels have them: a DNS name and '/' where there is a prefix, then at most 63 letters, digits, '-', '_' and '.'"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.all(k, !format.labelValue().validate(self.matchLabels[k]).hasValue())",message="matchLabels must have values as labels have them: nothing, or at most 63 letters, digits, '-', '_' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !format.qualifiedName().validate(e.key).hasValue())",message="matchExpressions[].key must be as labels' keys are: a DNS name and '/' where there is a prefix, then at most 63 letters, digits, '-', '_' and '.'"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !has(e.values) || e.values.all(v, !format.labelValue().validate(v).hasValue()))",message="matchExpressions[].values must be as labels' values are: nothing, or at most 63 letters, digits, '-', '_' and '.', with a letter or a digit first and last"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ModelKey is a named key that opens a sealed model: an age identity.
type ModelKey struct {
	// name is how images[].keyName refers to the key. Required, unique in the licence.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be a DNS label in lower case, for example v2"
	Name string `json:"name"`

	// secretRef is the Secret in the operator's namespace that holds the key. Required.
	// +required
	SecretRef SecretKeyReference `json:"secretRef"`
}

// SecretKeyReference names an entry of a Secret in the operator's namespace.
type SecretKeyReference struct {
	// name is the Secret's name. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret in the operator's namespace: lower case letters, digits, '-' and '.'"
	Name string `json:"name"`

	// key is the entry of the Secret that holds the age identity as text. Optional, default "key".
	// +optional
	// +default="key"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="must be an entry of the Secret's data: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// ModelLicenseStatus is what the operator found out about a licence.
type ModelLicenseStatus struct {
	// conditions are Ready, KeysAvailable, AdmissionReady, ImagesResolved, CopiesDetected, ExpiringSoon, OverLimit,
	// Reconciling and Stalled. Ready is True when pods can be admitted under the licence and get their key. Optional.
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

	// grants is the number of grants that count: Ready ones, of this licence. Optional.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Grants *int32 `json:"grants,omitempty"`

	// images are the tags of the licensed repositories and what they were resolved to, as far as the registry could be
	// read. Optional, at most 128 items.
	// +optional
	// +kubebuilder:validation:MaxItems=128
	// +listType=map
	// +listMapKey=repository
	// +listMapKey=tag
	// +listMapKey=digest
	Images []ResolvedImage `json:"images,omitempty"`

	// distribution says on which nodes images of the licence lie, by what the nodes themselves report. Optional.
	// +optional
	Distribution *ImageDistribution `json:"distribution,omitempty"`

	// seats says who uses the licence now, and who waits. Optional.
	// +optional
	Seats *SeatStatus `json:"seats,omitempty"`

	// usage is what was used under the licence since it was first seen. Optional.
	// +optional
	Usage *UsageStatus `json:"usage,omitempty"`

	// expires is when the licence ends next: notAfter, or in the grace period the end of that. Optional: empty where it does
	// not end.
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
}

// SeatStatus says what is in use of a licence or a grant.
type SeatStatus struct {
	// summary is pods in use and their limit, as 3/4, or 3 where pods are not limited. Required.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Summary string `json:"summary"`

	// inUse is what the pods that hold a seat use together: pods, nodes and resources. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	InUse corev1.ResourceList `json:"inUse,omitempty"`

	// limits are the limits in force. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// waiting is the number of pods that wait for a seat. Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	Waiting int32 `json:"waiting"`

	// waitingFor is what they want together. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	WaitingFor corev1.ResourceList `json:"waitingFor,omitempty"`

	// beyondLimits is the number of pods that hold a seat beyond the limits: by surge, because limits were lowered, or
	// because they ran before. Optional.
	// +optional
	// +kubebuilder:validation:Minimum=0
	BeyondLimits int32 `json:"beyondLimits,omitempty"`

	// holders are the pods that hold a seat, the first of them by time. Optional, at most 100 items; empty in a grant.
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=uid
	Holders []SeatHolder `json:"holders,omitempty"`
}

// SeatHolder is a pod that holds a seat.
type SeatHolder struct {
	// uid is the pod's UID. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid"`

	// namespace is the pod's, which is also its grant's. Required.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// pod is the pod's name; empty where the pod's object is gone. Optional.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pod string `json:"pod,omitempty"`

	// node is the node that the pod runs on; empty before it is scheduled. Optional.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`

	// since is when the pod got the seat. Required.
	// +required
	Since metav1.Time `json:"since"`

	// until is when the seat ends by itself, since nothing proves that the pod ended: when the lease of its node is over.
	// Optional.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// UsageStatus is what was used, in units that only grow.
type UsageStatus struct {
	// podSeconds is for how long pods held seats, together, in seconds. Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	PodSeconds int64 `json:"podSeconds"`

	// resourceSeconds are the resources that they requested, each times the seconds that they were held: of cpu in
	// cores, of memory in gibibytes, of devices in devices. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	ResourceSeconds map[corev1.ResourceName]int64 `json:"resourceSeconds,omitempty"`
}

// ResolvedImage is a tag and what it stood for when the operator last asked the registry.
type ResolvedImage struct {
	// repository is the repository in normal form, without tag and digest. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Repository string `json:"repository"`

	// tag is the tag; empty for a digest that spec.images lists. Required.
	// +required
	// +kubebuilder:validation:MaxLength=128
	Tag string `json:"tag"`

	// digest is that of the manifest or index which the tag stands for. Required.
	// +required
	// +kubebuilder:validation:MinLength=71
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest"`

	// platforms are the digests of the manifests that an index holds. Optional, at most 16 items.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=71
	// +listType=set
	Platforms []string `json:"platforms,omitempty"`
}

// ImageDistribution says on which nodes images lie. A node reports at most 50 images (the kubelet's nodeStatusMaxImages),
// the largest first, so that absence proves nothing.
type ImageDistribution struct {
	// nodes are how many nodes hold an image of the licence. Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	Nodes int32 `json:"nodes"`

	// nodeNames are their names, the first by name. Optional, at most 100 items.
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	NodeNames []string `json:"nodeNames,omitempty"`
}

// ModelLicense says which model may be run, by whom it is licensed, on which terms, in which namespaces, and which keys
// open it. A platform team applies it; a pod may use the model where a ModelGrant in an allowed namespace names it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mlic,categories=modelrights
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Seats",type=string,JSONPath=`.status.seats.summary`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.seats.waiting`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expires`
// +kubebuilder:printcolumn:name="Licensor",type=string,JSONPath=`.spec.licensor`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.spec.model.name`,priority=1
// +kubebuilder:printcolumn:name="Grants",type=integer,JSONPath=`.status.grants`,priority=1
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.model.version`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50 && !self.metadata.name.contains('.')",message="metadata.name must be a DNS label of at most 50 characters, since it names a directory and a volume in pods"
type ModelLicense struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the licensor permits. Required.
	// +required
	Spec ModelLicenseSpec `json:"spec"`

	// status is what the operator found out. Optional, written by the operator.
	// +optional
	Status ModelLicenseStatus `json:"status,omitempty"`
}

// ModelLicenseList is a list of licences.
//
// +kubebuilder:object:root=true
type ModelLicenseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelLicense `json:"items"`
}
