package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
