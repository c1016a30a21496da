package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// revoke does what is due about a pod that lost licences: it makes the entries durable, says so on the pod and makes its
// node look, tells people, and ends the pod where a licence wants that.
func (r *RevocationReconciler) revoke(ctx context.Context, pod *corev1.Pod, lost []loss) (ctrl.Result, error) {
	p := r.proceedings.of(pod, r.Clock.Now())
	if news := unlogged(pod, lost); len(news) > 0 {
		if err := r.log(ctx, pod, news); err != nil {
			// A log that cannot be written shall not keep a key on a node.
			return ctrl.Result{}, errors.Join(err, r.notify(ctx, pod, p, lost, nil))
		}
		if err := r.notify(ctx, pod, p, lost, revokedCondition(pod, lost, r.Clock.Now())); err != nil {
			return ctrl.Result{}, err
		}
		r.tell(pod, news)
	} else if err := r.notify(ctx, pod, p, lost, nil); err != nil {
		return ctrl.Result{}, err
	}
	if !p.removed && slices.ContainsFunc(lost, loss.evicts) && r.ender.ends(pod) {
		if err := r.end(ctx, pod, p, lost); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: r.wait(pod, lost), Priority: ptr.To(handler.LowPriority)}, nil
}

// log makes the entries durable, at the same time, so that they share a record.
func (r *RevocationReconciler) log(ctx context.Context, pod *corev1.Pod, news []loss) error {
	ctx, cancel := context.WithTimeout(ctx, revocationAudit)
	defer cancel()
	for _, l := range news {
		if err := appendEntry(ctx, r.Audit, l.revoked(pod)); err != nil {
			return err
		}
	}
	return nil
}

// notify makes the pod's node look where that is due, and sets the pod's condition unless it is nil, in one write of the pod's
// status: no webhook has to let that pass.
func (r *RevocationReconciler) notify(ctx context.Context, pod *corev1.Pod, p *proceeding, lost []loss, condition *corev1.PodCondition) error {
	now := r.Clock.Now()
	onNode := slices.DeleteFunc(slices.Clone(lost), func(l loss) bool { return !l.onNode(pod) })
	looks := p.isDue(now) && slices.ContainsFunc(onNode, func(l loss) bool { return p.asked == 0 || !isWiped(r.Ledgers, l.name, pod.UID) })
	if looks || condition != nil {
		at := now
		if p.asked == 0 {
			at = p.seen
		}
		if err := patchRevocation(ctx, r.Client, pod, condition, looks, at); err != nil {
			return err
		}
	}
	if looks && p.asked == 0 {
		r.proceedings.waits(pod, p.seen, onNode)
		for _, l := range onNode {
			r.noteWiped(l.name) // a node can be so fast that its report was seen before it was waited for
		}
		if r.Metrics != nil {
			r.Metrics.asked.Observe(r.Clock.Since(p.seen).Seconds())
		}
	}
	p.passed(now, len(onNode) > 0)
	return nil
}

// tell tells people, once the pod's condition says that all is logged.
func (r *RevocationReconciler) tell(pod *corev1.Pod, news []loss) {
	for _, l := range news {
		if r.Metrics != nil {
			r.Metrics.revoked.WithLabelValues(string(l.reason)).Inc()
		}
		revokedEvent(r.Events, v1alpha1.ReasonRevoked, pod, nil, "lost "+l.note())
		if l.license != nil {
			revokedEvent(r.Events, v1alpha1.ReasonRevoked, l.license, pod, fmt.Sprintf("pod %s/%s lost %s", pod.Namespace, pod.Name, l.note()))
		}
	}
}

// end ends a pod, and logs and tells that once it has happened.
func (r *RevocationReconciler) end(ctx context.Context, pod *corev1.Pod, p *proceeding, lost []loss) error {
	how, err := r.ender.end(ctx, pod, p, r.Clock.Now())
	if err != nil || how == "" {
		return err
	}
	for _, l := range lost {
		if l.evicts() {
			p.owed = append(p.owed, l.ended(pod, how))
			revokedEvent(r.Events, v1alpha1.ReasonRevokedPodEnded, pod, nil, fmt.Sprintf("%s: it lost %s", how, l.note()))
		}
	}
	if r.Metrics != nil {
		r.Metrics.ended.WithLabelValues(how.way()).Inc()
	}
	return r.payDebt(ctx, client.ObjectKeyFromObject(pod))
}

// payDebt logs what has happened.
func (r *RevocationReconciler) payDebt(ctx context.Context, pod PodRef) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, entry := range r.proceedings.debt(pod) {
		if err := appendEntry(ctx, r.Audit, entry); err != nil {
			return err
		}
	}
	r.proceedings.paid(pod)
	return nil
}

// restore says on a pod that it has back what it lost, and makes its node look, which asks for the key again.
func (r *RevocationReconciler) restore(ctx context.Context, pod *corev1.Pod, notes []string) error {
	now := r.Clock.Now()
	if err := patchRevocation(ctx, r.Client, pod, restoredCondition(pod, notes, now), pod.Spec.NodeName != "", now); err != nil {
		return err
	}
	r.proceedings.restored(pod)
	return nil
}

// restoreSeatless is restore for a pod whose seats have ended since: where it is entitled to all that it uses, the pod
// controller gives it others once it is no longer said to be revoked.
func (r *RevocationReconciler) restoreSeatless(ctx context.Context, pod *corev1.Pod, f rightsFacts) error {
	notes := f.entitledNotes(pod)
	if len(notes) == 0 {
		return nil
	}
	return r.restore(ctx, pod, notes)
}
