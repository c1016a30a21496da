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
		ledger := r.Seats.Ledgers.Ledger(a.use.License.Name)
		if ledger == nil {
			return false
		}
		h, ok := ledger.Holder(pod.UID)
		if !ok || !sameAmount(h.Amount, amountOf(pod, a)) {
			return false
		}
	}
	return true
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
	if ledger := r.Seats.Ledgers.Ledger(license.Name); ledger != nil {
		if h, ok := ledger.Holder(pod.UID); ok && sameAmount(h.Amount, amount) {
			return true, nil
		} else if ok {
			return true, r.resize(ctx, pod, a, h.Amount, amount)
		}
	}
	doing, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	results, err := r.Seats.Book.Do(doing, license.Name, seats.Limit{License: license}, seats.Adopt{
		Pod: pod.UID, Grant: needOf(pod, a.use).seatGrant(), GrantLimits: limits, Amount: amount,
		Node: pod.Spec.NodeName, Since: r.runsSince(pod),
	})
	if err != nil {
		return false, fmt.Errorf("adopting pod %s/%s in licence %s: %w", pod.Namespace, pod.Name, license.Name, err)
	}
	return results[1].OK(), nil
}

// runsSince is since when a pod holds a seat that it has to be given: since it was admitted, where it has lost the seat;
// else from now on.
func (r *PodReconciler) runsSince(pod *corev1.Pod) time.Time {
	if wasAdmitted(pod) {
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
