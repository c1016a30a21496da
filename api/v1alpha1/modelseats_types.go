package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxSeatHolders is how many pods can hold a seat in one ledger. It keeps a ledger, at 64 bytes a holder, within what etcd
// stores in one value.
const MaxSeatHolders = 20000

// ModelSeatsSpec is the ledger itself. It is written by the operator alone, by compare-and-swap on the resourceVersion.
// Package internal/seats reads and writes it; indexes below are positions in its lists.
type ModelSeatsSpec struct {
	// licenseUID is the UID of the licence that the ledger was last counted for. Required.
	// +required
	// +kubebuilder:validation:MaxLength=64
	LicenseUID string `json:"licenseUID"`

	// licenseGeneration is the generation of that licence whose limits are below. Who knows an older one takes no seat.
	// Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	LicenseGeneration int64 `json:"licenseGeneration"`

	// limits are the licence's limits at that generation. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// terms are what must be known of the licence once it is gone, or has changed. Optional: without them, nothing is known.
	// +optional
	Terms *SeatTerms `json:"terms,omitempty"`

	// grants are the grants that holders have their seats from, with what was used under each. Optional, at most 4096
	// items.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +listType=atomic
	Grants []SeatGrant `json:"grants,omitempty"`

	// nodes are the nodes that holders run on. Optional, at most 5000 items.
	// +optional
	// +kubebuilder:validation:MaxItems=5000
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	Nodes []string `json:"nodes,omitempty"`

	// amounts are what holders count for, each distinct one once. Optional, at most 4096 items.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +listType=atomic
	Amounts []SeatAmount `json:"amounts,omitempty"`

	// holders are the pods that hold a seat, one a line: UID, and what is known of it. Optional, at most 20000 items of at
	// most 64 bytes.
	// +optional
	// +kubebuilder:validation:MaxItems=20000
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=atomic
	Holders []string `json:"holders,omitempty"`

	// usage is what was used by pods that hold no seat any more. Optional.
	// +optional
	Usage *UsageStatus `json:"usage,omitempty"`
}

// SeatTerms are the terms of a licence that its ledger keeps. While the licence exists, it is the licence that counts.
type SeatTerms struct {
	// onRevoke is the licence's onRevoke: what happens to its running pods when it is deleted while no operator runs.
	// Required.
	// +required
	OnRevoke RevocationPolicy `json:"onRevoke"`

	// enforcement is the licence's enforcement: pods of one that does not enforce are not ended. Required.
	// +required
	Enforcement EnforcementMode `json:"enforcement"`

	// leaseDuration is the longest lease that a node may have by now, 1m to 24h: the licence's, or a longer one that it
	// had before, until that is over. Required.
	// +required
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="must be a duration of hours, minutes and seconds from 1m to 24h, for example 1h"
	LeaseDuration metav1.Duration `json:"leaseDuration"`
}

// SeatGrant is a grant in a ledger.
type SeatGrant struct {
	// namespace is the grant's namespace. Required.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// name is the grant's name. Required.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// uid is the grant's UID. Required.
	// +required
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid"`

	// limits are the grant's limits as they were when a pod last took a seat under it. Optional.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// usage is what was used under the grant by pods that hold no seat any more. Optional.
	// +optional
	Usage *UsageStatus `json:"usage,omitempty"`
}

// SeatAmount is what a pod counts for.
type SeatAmount struct {
	// resources are what the pod requests, as the scheduler counts it. Required.
	// +required
	// +kubebuilder:validation:MaxProperties=16
	Resources corev1.ResourceList `json:"resources"`
}

// ModelSeats is the seat ledger of the ModelLicense of the same name: which pods hold a seat. It outlives a licence that
// is deleted until the last of its pods has ended.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=modelseats,singular=modelseats,shortName=mseats,categories=modelrights
// +kubebuilder:printcolumn:name="Generation",type=integer,JSONPath=`.spec.licenseGeneration`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ModelSeats struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the ledger. Required, written by the operator.
	// +required
	Spec ModelSeatsSpec `json:"spec"`
}

// ModelSeatsList is a list of ledgers.
//
// +kubebuilder:object:root=true
type ModelSeatsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelSeats `json:"items"`
}
