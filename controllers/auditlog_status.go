package controllers

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// auditFindings is what a look at the records has found.
type auditFindings struct {
	audit.Checker
	// verified says that all records were looked at, not only those that are new.
	verified bool
	// unfinished says that there are more new records.
	unfinished bool
	// again is when to look again.
	again time.Duration
}

// checkerOf goes on counting where the head stands. Credible may be nil.
func checkerOf(status v1alpha1.ModelAuditLogStatus, credible func(time.Time) bool) audit.Checker {
	c := audit.Checker{
		Size: ptr.Deref(status.Size, 0), Records: ptr.Deref(status.Records, 0), LastRecord: status.LastRecord, Credible: credible,
	}
	if status.LastRecordTime != nil {
		c.LastTime = status.LastRecordTime.Time
		if credible == nil || credible(c.LastTime) {
			c.Mark = c.LastTime
		}
	}
	if status.TimeMark != nil {
		c.Mark = status.TimeMark.Time
	}
	return c
}

// auditLogStatus is the status that a head should have. A gap that was found once stays until all records were looked at
// again.
func auditLogStatus(head *v1alpha1.ModelAuditLog, found auditFindings) v1alpha1.ModelAuditLogStatus {
	status := *head.Status.DeepCopy()
	status.Size, status.Records = ptr.To(found.Size), ptr.To(found.Records)
	status.LastRecord = found.LastRecord
	status.LastRecordTime = nil
	if found.LastRecord != "" {
		status.LastRecordTime = &metav1.Time{Time: found.LastTime}
	}
	status.TimeMark = nil
	if !found.Mark.IsZero() {
		status.TimeMark = &metav1.Time{Time: found.Mark}
	}

	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	knownGap := ready != nil && ready.Reason == string(v1alpha1.ReasonLogGap)
	switch {
	case found.FaultCount > 0:
		setReadiness(&status.Conditions, head.Generation, false, false, v1alpha1.ReasonLogGap, gapMessage(found.Checker))
	case knownGap && !found.verified:
		setReadiness(&status.Conditions, head.Generation, false, false, v1alpha1.ReasonLogGap, ready.Message)
	case found.unfinished:
		setReadiness(&status.Conditions, head.Generation, false, true, v1alpha1.ReasonProgressing, "New records are being counted.")
	default:
		setReadiness(&status.Conditions, head.Generation, true, false, v1alpha1.ReasonLogComplete, "The records form a log without a gap.")
	}
	return status
}

func gapMessage(c audit.Checker) string {
	var faults []string
	for _, f := range c.Faults {
		faults = append(faults, f.String())
	}
	message := strings.Join(faults, "; ")
	if more := c.FaultCount - int64(len(c.Faults)); more > 0 {
		message += fmt.Sprintf("; and %d more places", more)
	}
	return "The log is not complete: " + message + ". Find out from the API server's audit log who removed or added " +
		"ModelAuditRecords, and restore them from a backup of etcd."
}
