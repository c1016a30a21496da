package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// maxShownHolders bounds the holders in a status, as its schema does.
const maxShownHolders = 100

// waitingSum is what waits under all grants of a licence.
func waitingSum(byGrant map[seats.Grant]WaitingSeats) WaitingSeats {
	all := WaitingSeats{}
	for _, w := range byGrant {
		all.Pods += w.Pods
		for name, quantity := range w.Resources {
			if all.Resources == nil {
				all.Resources = corev1.ResourceList{}
			}
			sum := all.Resources[name]
			sum.Add(quantity)
			all.Resources[name] = sum
		}
	}
	return all
}

// seatStatus is what is in use, without holders.
func seatStatus(inUse, limits corev1.ResourceList, waiting WaitingSeats, beyond int) *v1alpha1.SeatStatus {
	pods := inUse[corev1.ResourcePods]
	status := &v1alpha1.SeatStatus{
		Summary: pods.String(), InUse: inUse, Limits: limits.DeepCopy(),
		Waiting: int32(waiting.Pods), WaitingFor: waiting.Resources, BeyondLimits: int32(beyond),
	}
	if limit, ok := limits[corev1.ResourcePods]; ok {
		status.Summary += "/" + limit.String()
	}
	return status
}

// nothingInUse is what a licence or grant without a ledger has in use.
func nothingInUse() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourcePods: {}, resourceNodes: {}}
}

// shownHolders are the first holders, with the names and nodes that podOf knows of them.
func shownHolders(holders []seats.Holder, podOf func(types.UID) *corev1.Pod) []v1alpha1.SeatHolder {
	var shown []v1alpha1.SeatHolder
	for _, h := range holders[:min(len(holders), maxShownHolders)] {
		s := v1alpha1.SeatHolder{UID: string(h.Pod), Namespace: h.Grant.Namespace, Node: h.Node, Since: metav1.NewTime(h.Since)}
		if pod := podOf(h.Pod); pod != nil {
			s.Pod = pod.Name
			if pod.Spec.NodeName != "" {
				s.Node = pod.Spec.NodeName
			}
		}
		if !h.Until.IsZero() {
			s.Until = &metav1.Time{Time: h.Until}
		}
		shown = append(shown, s)
	}
	return shown
}

// setOverLimit sets the condition that says whether more is in use than the limits allow.
func setOverLimit(conditions *[]metav1.Condition, generation int64, status *v1alpha1.SeatStatus) {
	var over []string
	for _, name := range slices.Sorted(maps.Keys(status.Limits)) {
		limit, used := status.Limits[name], status.InUse[name]
		if used.Cmp(limit) > 0 {
			over = append(over, fmt.Sprintf("%s %s of %s", used.String(), name, limit.String()))
		}
	}
	switch {
	case len(over) > 0:
		setCondition(conditions, generation, v1alpha1.ConditionOverLimit, true, v1alpha1.ReasonLimitExceeded,
			fmt.Sprintf("%s are in use: no running pod is ended for it, and nothing new starts", strings.Join(over, ", ")))
	case status.BeyondLimits > 0:
		setCondition(conditions, generation, v1alpha1.ConditionOverLimit, true, v1alpha1.ReasonLimitExceeded,
			fmt.Sprintf("%d pods hold seats beyond the limits: no running pod is ended for it, and nothing new starts", status.BeyondLimits))
	default:
		setCondition(conditions, generation, v1alpha1.ConditionOverLimit, false, v1alpha1.ReasonWithinLimits, "no more is in use than the limits allow")
	}
}

// setLedgerUnreadable says that nobody knows what is in use.
func setLedgerUnreadable(conditions *[]metav1.Condition, generation int64, license string, err error) {
	message := fmt.Sprintf("somebody changed ModelSeats %s, and it cannot be understood, so nothing new starts: %v. Delete it, and the pods that run are counted anew", license, err)
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: v1alpha1.ConditionOverLimit, Status: metav1.ConditionUnknown, Reason: string(v1alpha1.ReasonLedgerUnreadable),
		Message: bounded(message), ObservedGeneration: generation,
	})
}

// beyondByGrant counts the holders that have a seat beyond the limits, by grant.
func beyondByGrant(holders []seats.Holder) map[seats.Grant]int {
	beyond := map[seats.Grant]int{}
	for i := range holders {
		if holders[i].Kind != seats.Regular {
			beyond[holders[i].Grant]++
		}
	}
	return beyond
}
