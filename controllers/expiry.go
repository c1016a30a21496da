package controllers

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const day = 24 * time.Hour

// expiryWarnings are how long before its end a licence or a grant is said to end soon, the nearest first.
var expiryWarnings = []struct {
	before time.Duration
	reason v1alpha1.Reason
}{
	{day, v1alpha1.ReasonExpiresIn1Day},
	{3 * day, v1alpha1.ReasonExpiresIn3Days},
	{14 * day, v1alpha1.ReasonExpiresIn14Days},
}

// expiry is how near a licence or a grant is to its end.
type expiry struct {
	// ends is when it ends next: its time, or in the grace period that. Zero: it does not end.
	ends time.Time
	// reason is that of ExpiringSoon; empty where the end is far away, or past.
	reason v1alpha1.Reason
	// message says it in words, without what to do about it.
	message string
	// changes is when any of this changes by itself; zero: it does not.
	changes time.Time
}

// expiryOf says how near the end is at a moment, of what holds until a time and for pods that run until graceUntil. Both are
// zero where there is no end, and the same where there is no grace period.
func expiryOf(until, graceUntil, now time.Time) expiry {
	switch {
	case until.IsZero():
		return expiry{}
	case now.Before(until):
		return beforeEnd(until, graceUntil, now)
	case now.Before(graceUntil):
		return expiry{
			ends: graceUntil, changes: graceUntil, reason: v1alpha1.ReasonGracePeriod,
			message: fmt.Sprintf("ended at %s; pods that run lose their keys at %s", rfc3339(until), rfc3339(graceUntil)),
		}
	default:
		return expiry{ends: graceUntil}
	}
}

func beforeEnd(until, graceUntil, now time.Time) expiry {
	e := expiry{ends: until, changes: until}
	for _, warning := range expiryWarnings {
		if at := until.Add(-warning.before); now.Before(at) {
			e.changes = at
			continue
		}
		e.reason = warning.reason
		e.message = fmt.Sprintf("ends at %s; pods that run lose their keys then", rfc3339(until))
		if until.Before(graceUntil) {
			e.message = fmt.Sprintf("ends at %s; pods that run lose their keys at %s", rfc3339(until), rfc3339(graceUntil))
		}
		break
	}
	return e
}

// status is the end as a status says it; nil where there is none.
func (e expiry) status() *metav1.Time {
	if e.ends.IsZero() {
		return nil
	}
	ends := metav1.NewTime(e.ends)
	return &ends
}

// set sets ExpiringSoon, or removes it where nothing ends soon.
func (e expiry) set(conditions *[]metav1.Condition, generation int64, remedy string) {
	if e.reason == "" {
		meta.RemoveStatusCondition(conditions, v1alpha1.ConditionExpiringSoon)
		return
	}
	setCondition(conditions, generation, v1alpha1.ConditionExpiringSoon, true, e.reason, e.message+"; "+remedy)
}

// expiringReason is the reason of ExpiringSoon; empty where nothing ends soon.
func expiringReason(conditions []metav1.Condition) string {
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionExpiringSoon); c != nil && c.Status == metav1.ConditionTrue {
		return c.Reason
	}
	return ""
}

// expiryChanged says whether there is another reason to say that the end is near, which is worth an Event. The reason stands
// in the status, so that a restart repeats none.
func expiryChanged(before, after []metav1.Condition) bool {
	reason := expiringReason(after)
	return reason != "" && reason != expiringReason(before)
}

// expiryEvent says on a licence or grant that its end is near.
func expiryEvent(recorder events.EventRecorder, about runtime.Object, conditions []metav1.Condition) {
	if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionExpiringSoon); c != nil {
		recorder.Eventf(about, nil, corev1.EventTypeWarning, c.Reason, actionReconcile, "%s", bounded(c.Message))
	}
}
