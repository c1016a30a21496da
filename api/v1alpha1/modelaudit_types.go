package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ModelAuditRecordSpec is a batch of log entries that were committed together.
type ModelAuditRecordSpec struct {
	// firstIndex is the index in the log of the first entry, counted from 0. The record's name is this number, padded
	// with zeros to 20 digits, so that creating a record is the compare-and-swap between writers. Required.
	// +required
	// +kubebuilder:validation:Minimum=0
	FirstIndex int64 `json:"firstIndex"`

	// summary says in words what the first entry is about, and how many follow, for `kubectl get`. The entries are the
	// evidence, not this. Required.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Summary string `json:"summary"`

	// entries are the log entries in order, each the canonical JSON (RFC 8785) of one entry, and exactly the bytes of
	// the leaf in the log's Merkle tree (RFC 6962). Required, 1 to 256 items of at most 4096 characters.
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=2
	// +kubebuilder:validation:items:MaxLength=4096
	// +listType=atomic
	Entries []string `json:"entries"`
}

// ModelAuditRecord is a batch of 1 to 256 entries of the audit log, committed together. It is created once, by the
// operator alone, and never changed.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=maudit,categories=modelrights
// +kubebuilder:printcolumn:name="Entry",type=integer,JSONPath=`.spec.firstIndex`,priority=1
// +kubebuilder:printcolumn:name="Summary",type=string,JSONPath=`.spec.summary`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[0-9]{20}$') && int(self.metadata.name) == self.spec.firstIndex",message="metadata.name must be spec.firstIndex padded with zeros to 20 digits"
type ModelAuditRecord struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the entries. Required, immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an audit record cannot be changed"
	Spec ModelAuditRecordSpec `json:"spec"`
}

// ModelAuditRecordList is a list of records.
//
// +kubebuilder:object:root=true
type ModelAuditRecordList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelAuditRecord `json:"items"`
}

// ModelAuditLogSpec is empty so far: the log has nothing to set.
type ModelAuditLogSpec struct{}

// ModelAuditLogStatus is the head of the log.
type ModelAuditLogStatus struct {
	// conditions are Ready, Reconciling and Stalled. Ready is True while the records form a log without a gap.
	// Optional.
	// +optional
	// +patchMergeKey=type
	// +patchStrategy=merge
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// size is the number of entries that are known to have been written to the log: the index at which it goes on. It may
	// lag behind for a moment, and never shrinks. Optional.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Size *int64 `json:"size,omitempty"`

	// records is the number of ModelAuditRecords that hold them. Optional.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Records *int64 `json:"records,omitempty"`

	// lastRecord is the name of the newest record that is counted in size. Whoever wants the end of the log starts
	// here and walks forward. Optional: empty while the log is.
	// +optional
	// +kubebuilder:validation:MaxLength=20
	LastRecord string `json:"lastRecord,omitempty"`

	// lastRecordTime is the API server's creation time of lastRecord. Optional.
	// +optional
	LastRecordTime *metav1.Time `json:"lastRecordTime,omitempty"`

	// timeMark is the latest moment that the API server's clock is known to have shown, by the creation time of a record. No
	// licence is judged by an earlier one, so that a clock which is set back revives none. Optional.
	// +optional
	TimeMark *metav1.Time `json:"timeMark,omitempty"`
}

// ModelAuditLog is the head of the cluster's audit log. There is one, named cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mlog,categories=modelrights
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Entries",type=integer,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Records",type=integer,JSONPath=`.status.records`
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.lastRecordTime`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'cluster'",message="metadata.name must be cluster: there is one audit log"
type ModelAuditLog struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is empty so far. Optional.
	// +optional
	Spec ModelAuditLogSpec `json:"spec,omitempty"`

	// status is the head. Optional, written by the operator.
	// +optional
	Status ModelAuditLogStatus `json:"status,omitempty"`
}

// ModelAuditLogList is a list of audit logs.
//
// +kubebuilder:object:root=true
type ModelAuditLogList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelAuditLog `json:"items"`
}
