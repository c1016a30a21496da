package webhooks

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
)

// share is what somebody limits, and what is in use of it.
type share struct {
	owner         string
	limits, inUse corev1.ResourceList
}

// shares are the licence's and, where it is known, the grant's. Without a ledger nothing is in use.
func shares(l *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant, ledger *seats.Ledger) []share {
	all := []share{{owner: "ModelLicense " + l.Name, limits: l.Spec.Terms.Limits}}
	if ledger != nil {
		all[0].inUse = ledger.InUse()
	}
	if g == nil {
		return all
	}
	own := share{owner: fmt.Sprintf("ModelGrant %s/%s", g.Namespace, g.Name), limits: g.Spec.Limits}
	if ledger != nil {
		own.inUse = ledger.InUseBy(seats.Grant{Namespace: g.Namespace, Name: g.Name, UID: g.UID})
	}
	return append(all, own)
}

// lack is what there is not enough of.
type lack struct {
	owner                string
	name                 corev1.ResourceName
	limit, inUse, wanted resource.Quantity
	// tooLarge says that the limit alone is less than what is wanted, whoever else uses it.
	tooLarge bool
}

func (l *lack) String() string {
	if l.tooLarge {
		return fmt.Sprintf("it asks for %s of %s, of which %s allows %s", l.wanted.String(), l.name, l.owner, l.limit.String())
	}
	return fmt.Sprintf("it asks for %s of %s, and of the %s that %s allows %s are in use", l.wanted.String(), l.name, l.limit.String(), l.owner, l.inUse.String())
}

// lackOf is the first limit by owner and name that forbids a pod to go from what it holds to what it wants; nil where
// none does. What does not grow is never lacked. Nodes are not looked at: a pod can be confined to those in use.
func lackOf(all []share, held, wanted corev1.ResourceList) *lack {
	var found *lack
	for _, s := range all {
		for _, name := range slices.Sorted(maps.Keys(s.limits)) {
			want, had := wanted[name], held[name]
			if name == resourceNodes || want.Cmp(had) <= 0 {
				continue
			}
			missing := &lack{owner: s.owner, name: name, limit: s.limits[name], inUse: s.inUse[name], wanted: want}
			if want.Cmp(missing.limit) > 0 {
				missing.tooLarge = true
				return missing
			}
			after := missing.inUse.DeepCopy()
			after.Sub(had)
			after.Add(want)
			if found == nil && after.Cmp(missing.limit) > 0 {
				found = missing
			}
		}
	}
	return found
}

// resourceNodes is the limit of distinct nodes.
const resourceNodes corev1.ResourceName = "nodes"

// onePod is what a pod counts for, itself included.
func onePod(amount corev1.ResourceList) corev1.ResourceList {
	all := make(corev1.ResourceList, len(amount)+1)
	maps.Copy(all, amount)
	all[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	return all
}

// surges says whether a pod may still be let in beyond the limits; whether it is one that replaces another is for the
// controller to say.
func surges(allowance *v1alpha1.SurgeAllowance, ledger *seats.Ledger) bool {
	return allowance != nil && (ledger == nil || ledger.BeyondLimits() < int(allowance.Pods))
}

// grantNamed is the grant that a holder has its seat from; nil where it is gone.
func grantNamed(s *entitlement.Snapshot, of seats.Grant) *v1alpha1.ModelGrant {
	for _, g := range s.GrantsIn(of.Namespace) {
		if g.Name == of.Name && g.UID == of.UID {
			return g
		}
	}
	return nil
}
