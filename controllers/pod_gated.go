package controllers

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats/count"
	"modelrights.dev/modelrights/internal/seats/group"
)

// gated is what a pod with our gate comes to.
type gated struct {
	standing
	// denied is what it is not entitled to, and for which it stays where it is.
	denied entitlement.PodDecision
	// needs are the seats that it waits for, in the order of the licences' names. Licences that do not enforce make no pod
	// wait: once it runs, it is adopted.
	needs []seatNeed
}

func (r *PodReconciler) standGated(pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) gated {
	decided := r.decide(pod, labels, snapshot)
	g := gated{standing: standingOf(pod, decided), denied: decided.Denied()}
	for _, use := range decided.Licenses() {
		if !entitlement.Relaxed(use.License) {
			g.needs = append(g.needs, needOf(pod, use))
		}
	}
	return g
}

func needOf(pod *corev1.Pod, use entitlement.LicenseUse) seatNeed {
	return seatNeed{license: use.License, grant: use.Grant, amount: count.AmountOf(pod, use.License.Spec.Terms.Limits, use.Grant.Spec.Limits)}
}

// queuedAs is the pod as the queue knows it.
func queuedAs(pod *corev1.Pod, state queueState, needs []seatNeed) queuedPod {
	p := queuedPod{
		name: client.ObjectKeyFromObject(pod), uid: pod.UID, state: state, needs: needs,
		created: pod.CreationTimestamp.Time, priority: ptr.Deref(pod.Spec.Priority, 0), ending: pod.DeletionTimestamp != nil,
	}
	p.owner, p.revision = rolloutOf(pod)
	if g, ok := group.Of(pod); ok {
		p.group, p.groupSize = pod.Namespace+"/"+g.Key, g.Size
	}
	if c := conditionOf(pod, v1alpha1.PodConditionLicensed); c != nil && isWaitingReason(c.Reason) {
		p.told = verdict{reason: v1alpha1.Reason(c.Reason), message: withoutMarks(c.Message), position: -1}
	}
	return p
}

// isWaitingReason says whether a pod's condition says by this reason that it waits.
func isWaitingReason(reason string) bool {
	switch v1alpha1.Reason(reason) {
	case v1alpha1.ReasonWaitingForSeat, v1alpha1.ReasonWaitingForGroup, v1alpha1.ReasonWaitingForGates, v1alpha1.ReasonTooLarge, v1alpha1.ReasonLedgerFull:
		return true
	}
	return false
}

// enqueue tells the queue of a pod that needs seats.
func (r *PodReconciler) enqueue(pod *corev1.Pod, needs []seatNeed) queuedPod {
	state := seatInQueue
	if hasOtherGates(pod) {
		state = seatBehindGates
	}
	p := r.Seats.Queue.put(queuedAs(pod, state, needs))
	if p.state == seatBehindGates {
		var others []string
		for _, gate := range pod.Spec.SchedulingGates {
			if gate.Name != v1alpha1.SeatGate {
				others = append(others, gate.Name)
			}
		}
		r.Seats.Queue.owe(pod.UID, verdict{
			reason: v1alpha1.ReasonWaitingForGates, message: "seats are taken when these scheduling gates are removed: " + strings.Join(others, ", "),
		}, r.Clock.Now())
	}
	return p
}

// keepsWaiting says whether nothing is to be done about a cached pod but to let it wait.
func (r *PodReconciler) keepsWaiting(pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) bool {
	if pod.DeletionTimestamp != nil || isCut(pod) {
		return false
	}
	g := r.standGated(pod, labels, snapshot)
	if len(g.denied) > 0 || len(g.needs) == 0 {
		return false
	}
	p := r.enqueue(pod, g.needs)
	return p.allocation == nil && !p.partial
}

// reconcileGated brings a pod with our gate a step further. Where somebody else has written it, it is tried again.
func (r *PodReconciler) reconcileGated(ctx context.Context, pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) (ctrl.Result, error) {
	result, err := r.stepGated(ctx, pod, labels, snapshot)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	}
	return result, err
}

func (r *PodReconciler) stepGated(ctx context.Context, pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(pod)
	if err := r.Seats.Interrupt.at(ctx, StepSeen, name); err != nil {
		return ctrl.Result{}, err
	}
	if pod.DeletionTimestamp != nil {
		r.Seats.Queue.drop(name)
		return ctrl.Result{}, r.giveBack(ctx, pod)
	}
	if isCut(pod) {
		full := &corev1.Pod{}
		if err := r.Live.Get(ctx, name, full); err != nil || full.UID != pod.UID || !isGated(full) {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		pod = full
	}
	g := r.standGated(pod, labels, snapshot)
	switch {
	case len(g.denied) > 0:
		return r.refuseGated(ctx, pod)
	case len(g.needs) == 0:
		if _, taking := r.Seats.Queue.withdraw(pod.UID); taking {
			return ctrl.Result{RequeueAfter: retryTaking}, nil
		}
		return r.freeGated(ctx, pod)
	}
	p := r.enqueue(pod, g.needs)
	switch {
	case p.allocation != nil && p.allocation.withdrawn:
		// Its seats may be marked, or no longer be there, and not all is known that it has to know of them to start.
		r.Seats.Queue.release(pod.UID)
	case p.allocation != nil:
		return r.start(ctx, pod, g, *p.allocation)
	case p.partial && p.state == seatInQueue:
		return ctrl.Result{}, r.giveBackPartial(ctx, pod)
	case p.state == seatInQueue || p.state == seatBehindGates:
		if err := r.tellWaiting(ctx, pod, g.standing, p); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	return r.untilChange(g), nil
}

// untilChange looks at a waiting pod again when its entitlement may end.
func (r *PodReconciler) untilChange(g gated) ctrl.Result {
	now := r.Clock.Now()
	var next time.Time
	for _, n := range g.needs {
		if t := entitlement.NextChange(n.license, n.grant, now); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: max(time.Second, next.Sub(now))}
}

// tellWaiting says on a waiting pod what it waits for, where that was asked for and is new.
func (r *PodReconciler) tellWaiting(ctx context.Context, pod *corev1.Pod, s standing, p queuedPod) error {
	if p.due == (verdict{}) || p.asked == (verdict{}) || !p.due.alike(p.asked) || p.due.alike(p.told) {
		return nil
	}
	c := s.says(p.due.reason, p.due.message, r.Clock.Now())
	if s.condition == nil || s.condition.Reason != c.Reason || s.condition.Message != c.Message || s.condition.Status != c.Status {
		if err := patchPodConditionOf(ctx, r.Client, pod, c); err != nil {
			return err
		}
	}
	begins := p.told == (verdict{}) || p.told.reason != p.due.reason
	r.Seats.Queue.told(pod.UID, p.due)
	if begins && r.waitingTold.take(r.Clock.Now(), pod.Namespace) {
		waitingEvent(r.Events, pod, p.due.reason, p.due.message)
	}
	return nil
}

// says is a condition of a pod that does not run yet; what was logged of it before still stands in it.
func (s standing) says(reason v1alpha1.Reason, message string, now time.Time) *corev1.PodCondition {
	c := &corev1.PodCondition{
		Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionFalse, Reason: string(reason),
		Message: bounded(message) + s.logged.String(), LastTransitionTime: metav1.NewTime(now),
	}
	if s.condition != nil && s.condition.Status == c.Status {
		c.LastTransitionTime = s.condition.LastTransitionTime
	}
	return c
}

// refuseGated says on a pod that is not entitled any more why it does not start. Nothing is logged: it did not get past
// admission. Seats that it has are given back without waiting for a turn, for others wait for them; but not before what it lost
// is confirmed.
func (r *PodReconciler) refuseGated(ctx context.Context, pod *corev1.Pod) (ctrl.Result, error) {
	name := client.ObjectKeyFromObject(pod)
	took, taking := r.Seats.Queue.took(pod.UID)
	if taking {
		return ctrl.Result{RequeueAfter: retryTaking}, nil
	}
	holds := len(took) > 0 || len(r.Seats.Ledgers.LicensesOf(pod.UID)) > 0
	if !holds {
		if wait := r.pace.wait(name, r.Clock.Now(), pod.CreationTimestamp.Time); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	g, current, err := r.standGatedLive(ctx, pod)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !current || len(g.denied) == 0 {
		return ctrl.Result{RequeueAfter: retryStale}, nil // the cache is behind
	}
	if done, err := r.leave(ctx, pod); err != nil {
		return ctrl.Result{}, err
	} else if !done {
		return ctrl.Result{RequeueAfter: retryTaking}, nil
	}
	if holds {
		if wait := r.pace.wait(name, r.Clock.Now(), pod.CreationTimestamp.Time); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	denied := findingsOf(pod, g.denied)
	notes := make([]string, len(denied))
	for i, f := range denied {
		notes[i] = "not entitled " + f.note
	}
	c := g.says(denied[0].reason, strings.Join(notes, ", "), r.Clock.Now())
	if g.condition == nil || g.condition.Reason != c.Reason || g.condition.Message != c.Message {
		if err := patchPodCondition(ctx, r.Client, pod, v1alpha1.PodConditionLicensed, c); err != nil {
			return ctrl.Result{}, err
		}
	}
	return r.after(g.standing), nil
}

// standGatedLive is standGated by what the API server has now; see standLive.
func (r *PodReconciler) standGatedLive(ctx context.Context, pod *corev1.Pod) (g gated, current bool, err error) {
	snapshot, labels, err := r.liveRights(ctx, pod.Namespace)
	if err != nil {
		return gated{}, false, err
	}
	g = r.standGated(pod, labels, snapshot)
	for _, u := range g.denied {
		if current, err := isCurrent(ctx, r.Live, u.License); err != nil || !current {
			return gated{}, false, err
		}
	}
	return g, true, nil
}
