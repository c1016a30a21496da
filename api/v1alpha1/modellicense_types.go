package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
