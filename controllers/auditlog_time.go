package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/trustedtime"
)

// APITime is what is known of the API server's clock: a trustedtime.Clock.
type APITime interface {
	// Skew says how the operator's clock and the API server's differ. It is false while nothing is known of it.
	Skew() (trustedtime.Skew, bool)
	// Credible says whether the API server's clock can have shown a moment by now.
	Credible(at time.Time) bool
}

// credible says which creation times make a mark; nil: all do.
func (r *AuditLogReconciler) credible() func(time.Time) bool {
	if r.Time == nil {
		return nil
	}
	return r.Time.Credible
}

// resetMark does what the annotation on the head asks for: it writes the entry by which the time mark goes back to the
// creation time of that entry's record, and takes the annotation off. An operator that ends in between writes another
// entry later, which does no harm.
func (r *AuditLogReconciler) resetMark(ctx context.Context, head *v1alpha1.ModelAuditLog) error {
	why, asked := head.Annotations[v1alpha1.AnnotationResetTimeMark]
	if !asked || r.Audit == nil {
		return nil
	}
	mark := "not known"
	if head.Status.TimeMark != nil {
		mark = head.Status.TimeMark.UTC().Format(time.RFC3339)
	}
	_, err := r.Audit.Append(ctx, audit.Entry{
		Type:    audit.TimeMarkReset,
		Message: fmt.Sprintf("the time mark was %s, and is the creation time of this entry's record from now on; the annotation says %q", mark, why),
	})
	if err != nil {
		return fmt.Errorf("writing that the time mark is reset: %w", err)
	}
	before := head.DeepCopy()
	delete(head.Annotations, v1alpha1.AnnotationResetTimeMark)
	if err := r.Live.Patch(ctx, head, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("removing the annotation %s: %w", v1alpha1.AnnotationResetTimeMark, err)
	}
	ctrl.LoggerFrom(ctx).Info("Reset the time mark", "was", mark)
	return nil
}

// judgeClock says in the status, and returns, whether the clocks differ. It tells it by an Event when they begin to.
func (r *AuditLogReconciler) judgeClock(head *v1alpha1.ModelAuditLog, status *v1alpha1.ModelAuditLogStatus) (differ bool) {
	if r.Time == nil {
		return false
	}
	skew, known := r.Time.Skew()
	if !known {
		return false
	}
	if !skew.Exceeds() {
		setCondition(&status.Conditions, head.Generation, v1alpha1.ConditionClockSkewed, false, v1alpha1.ReasonClockAgrees,
			"The operator's clock agrees with the API server's, which has not been set back.")
		return false
	}
	message := skewMessage(skew)
	setCondition(&status.Conditions, head.Generation, v1alpha1.ConditionClockSkewed, true, v1alpha1.ReasonClockSkewed, message)
	if r.Events != nil && !meta.IsStatusConditionTrue(head.Status.Conditions, v1alpha1.ConditionClockSkewed) {
		r.Events.Eventf(head, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonClockSkewed), actionReconcile, "%s", bounded(message))
	}
	return true
}

// skewMessage is the same for a skew that is the same but for seconds, so that the status is not written over and over.
func skewMessage(skew trustedtime.Skew) string {
	if skew.Held > 0 {
		return fmt.Sprintf("An API server's clock has leapt ahead by %s. Nothing ends by it unless it is confirmed: where all API servers show "+
			"it for ten minutes. Until then no pod is admitted, and no key is released, by what will have ended by it. Set the clocks of the control plane right.",
			skew.Held.Round(time.Minute))
	}
	if skew.Behind > trustedtime.MaxSkew {
		return fmt.Sprintf("The API server's clock is %s behind what it showed earlier. Licences are judged by the later time. Set the clocks of the "+
			"control plane right; if it was the earlier time that was right, reset the mark: kubectl annotate mlog %s %s=WHY",
			skew.Behind.Round(time.Minute), v1alpha1.AuditLogName, v1alpha1.AnnotationResetTimeMark)
	}
	direction := "ahead of"
	if skew.Machine < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("The operator's clock is %s %s the API server's. Licences are judged by the API server's. Set the clocks of the nodes right.",
		skew.Machine.Abs().Round(time.Minute), direction)
}
