package view

import (
	"fmt"
	"slices"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// Doubt says why a decision might be another one if the user could see everything; empty where it could not. Candidates
// are the licences that cover the image. What cannot be seen is either no matter, because it cannot change the decision,
// or a doubt: a decision without doubt is the operator's.
func (v *View) Doubt(d entitlement.Decision, candidates []*v1alpha1.ModelLicense) string {
	ns := v.namespaces[d.Request.Namespace]
	if ns == nil {
		return fmt.Sprintf("namespace %s was not looked at", d.Request.Namespace)
	}
	labels := fmt.Sprintf("the labels of namespace %s cannot be seen, and a licence chooses namespaces by label", d.Request.Namespace)
	switch d.Reason {
	case v1alpha1.ReasonEntitled:
		// A licence that entitles does so whatever others say.
		if !ns.labelsSeen && selectsByLabel(d.License) {
			return labels
		}
		return ""
	case v1alpha1.ReasonUnparsableImage, v1alpha1.ReasonImageID:
		return ""
	case v1alpha1.ReasonNotGoverned:
		switch {
		case !v.allLicenses:
			return "it may be covered by a licence that cannot be seen"
		case !v.governedKnown:
			return "its repository may be governed without a licence, which cannot be seen"
		}
		return ""
	}
	// A licence without a grant in the namespace entitles nobody there: only licences that are granted can turn a refusal.
	switch {
	case len(ns.hidden) > 0:
		return fmt.Sprintf("licence %s is granted in namespace %s and cannot be seen", strings.Join(ns.hidden, ", "), d.Request.Namespace)
	case !ns.grantsSeen && (d.Reason == v1alpha1.ReasonNoGrant || !v.allLicenses):
		return fmt.Sprintf("the grants of namespace %s cannot be seen", d.Request.Namespace)
	case !ns.labelsSeen && slices.ContainsFunc(candidates, selectsByLabel):
		return labels
	}
	return ""
}
