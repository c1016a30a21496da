package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/internal/seats/count"
)

// retryAdoption is when a pod is tried again that runs and could not be given a seat.
const retryAdoption = 10 * time.Second

// needsSeats says whether a pod without our gate is to hold seats: it runs, or may at any moment. One that is being deleted
// keeps those that it has and gets no others: that the node has reported its end may be known before its last status.
func needsSeats(pod *corev1.Pod) bool {
	return !isOver(pod) && pod.DeletionTimestamp == nil && !isRevoked(conditionOf(pod, v1alpha1.PodConditionLicensed))
}

// isSeated says whether a cached pod holds the seats that it is to hold, and for the right amounts, as far as the cache
// knows.
func (r *PodReconciler) isSeated(pod *corev1.Pod, s standing) bool {
	if !needsSeats(pod) {
		return true
	}
	for _, a := range s.admitted {
		h, ok := r.holder(pod, a)
		if !ok && !r.isLost(pod, a) || ok && !sameAmount(h.Amount, amountOf(pod, a)) {
			return false
		}
	}
	return true
}

// holder is the seat of a pod under a licence, as far as the cache knows.
func (r *PodReconciler) holder(pod *corev1.Pod, a admission) (seats.Holder, bool) {
	ledger := r.Seats.Ledgers.Ledger(a.use.License.Name)
	if ledger == nil {
		return seats.Holder{}, false
	}
	return ledger.Holder(pod.UID)
}

// isLost says whether the node of a pod cannot be counted on, so that the seat which the pod lacks would end again. When the
// node is back, the pod is looked at again.
func (r *PodReconciler) isLost(pod *corev1.Pod, a admission) bool {
	return r.nodes.lost(pod.Spec.NodeName, leaseOf(a.use.License), r.Clock.Now())
}

func amountOf(pod *corev1.Pod, a admission) corev1.ResourceList {
	return count.AmountOf(pod, a.use.License.Spec.Terms.Limits, a.use.Grant.Spec.Limits)
}

// adopt gives a pod as the API server has it the seats that it runs without, beyond the limits if need be, and lets those
// that it has count for what it requests now. It reports whether the pod has all of them.
func (r *PodReconciler) adopt(ctx context.Context, pod *corev1.Pod, s standing) (seated bool, err error) {
	if !needsSeats(pod) {
		return true, nil
	}
	seated = true
	for _, a := range s.admitted {
		ok, err := r.adoptIn(ctx, pod, a)
		if err != nil {
			return false, err
		}
		seated = seated && ok
	}
	return seated, nil
}

func (r *PodReconciler) adoptIn(ctx context.Context, pod *corev1.Pod, a admission) (seated bool, err error) {
	license, grant := a.use.License, a.use.Grant
	amount, limits := amountOf(pod, a), grant.Spec.Limits
	switch h, ok := r.holder(pod, a); {
	case ok && sameAmount(h.Amount, amount), !ok && r.isLost(pod, a):
		return true, nil
	case ok:
		return true, r.resize(ctx, pod, a, h.Amount, amount)
	}
	doing, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	results, err := r.Seats.Book.Do(doing, license.Name, seats.Limit{License: license}, seats.Adopt{
		Pod: pod.UID, Grant: needOf(pod, a.use).seatGrant(), GrantLimits: limits, Amount: amount,
		Node: pod.Spec.NodeName, Since: r.runsSince(pod, license),
	})
	if err != nil {
		return false, fmt.Errorf("adopting pod %s/%s in licence %s: %w", pod.Namespace, pod.Name, license.Name, err)
	}
	return results[1].OK(), nil
}

// runsSince is since when a pod holds a seat that it has to be given: since it was admitted, where the whole ledger was lost;
// else from now on, since what a seat that ended used is counted.
func (r *PodReconciler) runsSince(pod *corev1.Pod, license *v1alpha1.ModelLicense) time.Time {
	if wasAdmitted(pod) && r.Seats.Ledgers.Ledger(license.Name) == nil {
		return conditionOf(pod, v1alpha1.PodConditionLicensed).LastTransitionTime.Time
	}
	return r.Clock.Now()
}

// resize lets a seat count for another amount. The pod was resized already, so it does even where there is no room.
func (r *PodReconciler) resize(ctx context.Context, pod *corev1.Pod, a admission, before, after corev1.ResourceList) error {
	license := a.use.License
	result, err := r.book(ctx, license.Name, seats.Resize{
		Pod: pod.UID, Amount: after, GrantLimits: a.use.Grant.Spec.Limits, Force: true, At: r.Clock.Now(),
	})
	if err != nil || !result.Changed {
		return err
	}
	resizedEvent(r.Events, pod, license, fmt.Sprintf("seat of licence %s counts for %s instead of %s", license.Name, amountText(after), amountText(before)))
	return nil
}

func amountText(amount corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(amount)) {
		quantity := amount[name]
		parts = append(parts, fmt.Sprintf("%s %s", quantity.String(), name))
	}
	if len(parts) == 0 {
		return "no resources"
	}
	return strings.Join(parts, ", ")
}
