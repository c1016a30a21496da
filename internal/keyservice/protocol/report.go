package protocol

import "modelrights.dev/modelrights/api/v1alpha1"

// Event is what a driver reports.
type Event string

// Events.
const (
	// Unpublished means that kubelet had the volume taken down, which it does when no container of the pod runs any more.
	Unpublished Event = "Unpublished"
	// Wiped means that the key was wiped while the volume stays.
	Wiped Event = "Wiped"
)

// ReportRequest is the body of a report. It may be repeated.
type ReportRequest struct {
	// Volume is the volume that held the key.
	Volume Volume `json:"volume"`
	// Event is what happened to it.
	Event Event `json:"event"`
	// AgeMilliseconds is how long ago, by a clock that nobody sets. 0 where the node was started anew since.
	AgeMilliseconds int64 `json:"ageMilliseconds,omitempty"`
	// Reason is why the key was wiped: the reason of the verdict, or LeaseEnded.
	Reason v1alpha1.Reason `json:"reason,omitempty"`
}

// ReportResponse is the answer to a report that was taken.
type ReportResponse struct{}
