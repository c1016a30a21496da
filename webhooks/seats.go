package webhooks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/internal/seats/count"
)

// Seats knows who holds seats, as far as memory has it: *seatbook.View. What it shows may be a moment behind, so that it
// refuses early and never vouches: seats are taken by the controller.
type Seats interface {
	// Ledger is the ledger of a licence, which must not be changed; nil where there is none.
	Ledger(license string) *seats.Ledger
	// LicensesOf are the licences that a pod holds seats of.
	LicensesOf(pod types.UID) []string
}

// holds says whether a pod has its seats.
func (d *decider) holds(pod *corev1.Pod) bool { return len(d.seatsOf(pod)) > 0 }

// seatsOf are the licences that a pod holds seats of.
func (d *decider) seatsOf(pod *corev1.Pod) []string {
	if d.seats == nil || pod.UID == "" {
		return nil
	}
	return d.seats.LicensesOf(pod.UID)
}

// decideRoom refuses a new pod for which a licence that does not queue has no room: overage Deny.
func (d *decider) decideRoom(pod *corev1.Pod, decided entitlement.PodDecision) []entitlement.Refusal {
	if d.seats == nil || len(decided.Denied()) > 0 {
		return nil
	}
	var refusals []entitlement.Refusal
	for _, use := range decided.Licenses() {
		terms := use.License.Spec.Terms
		if entitlement.Relaxed(use.License) || terms.Overage != v1alpha1.OverageDeny {
			continue
		}
		ledger := d.seats.Ledger(use.License.Name)
		wanted := count.AmountOf(pod, terms.Limits, use.Grant.Spec.Limits)
		lack := lackOf(shares(use.License, use.Grant, ledger), nil, onePod(wanted))
		if lack != nil && (lack.tooLarge || !surges(terms.Surge, ledger)) {
			refusals = append(refusals, entitlement.Refusal{
				Field: "spec", Reason: v1alpha1.ReasonSeatsFull, License: use.License.Name,
				Message: fmt.Sprintf("licence %s leaves no room for the pod: %s", use.License.Name, lack),
				Remedy:  fmt.Sprintf("wait until other pods end (kubectl get mlic %s -o yaml shows status.seats), ask %s for higher limits, or ask for terms.overage: Queue", use.License.Name, use.License.Spec.Licensor),
			})
		}
	}
	return refusals
}

// decideResize refuses that a pod which holds seats grows beyond what its licences leave. A licence that is gone, or only
// watches, refuses nothing; nor does one of which nothing is known: the controller books what the pod has then.
func (d *decider) decideResize(pod *corev1.Pod, s *entitlement.Snapshot) []entitlement.Refusal {
	if d.seats == nil || pod.UID == "" {
		return nil
	}
	var refusals []entitlement.Refusal
	for _, name := range d.seats.LicensesOf(pod.UID) {
		license, ledger := s.License(name), d.seats.Ledger(name)
		if license == nil || ledger == nil || entitlement.Relaxed(license) {
			continue
		}
		holder, holds := ledger.Holder(pod.UID)
		if !holds {
			continue
		}
		limits := []corev1.ResourceList{license.Spec.Terms.Limits}
		grant := grantNamed(s, holder.Grant)
		if grant != nil {
			limits = append(limits, grant.Spec.Limits)
		}
		wanted := count.AmountOf(pod, limits...)
		lack := lackOf(shares(license, grant, ledger), onePod(holder.Amount), onePod(wanted))
		if lack == nil {
			continue
		}
		refusal := entitlement.Refusal{
			Field: "spec.containers", Reason: v1alpha1.ReasonSeatsFull, License: name,
			Message: fmt.Sprintf("licence %s leaves no room for the pod to grow: %s", name, lack),
			Remedy:  fmt.Sprintf("wait until other pods end (kubectl get mlic %s -o yaml shows status.seats), or ask %s for higher limits", name, license.Spec.Licensor),
		}
		if lack.tooLarge {
			refusal.Reason = v1alpha1.ReasonTooLarge
			refusal.Remedy = fmt.Sprintf("ask for less, or ask %s for higher limits", license.Spec.Licensor)
		}
		refusals = append(refusals, refusal)
	}
	return refusals
}
