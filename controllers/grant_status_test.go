package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

func TestGrantStatus(t *testing.T) {
	inForce := func(change func(*v1alpha1.ModelLicense)) *v1alpha1.ModelLicense {
		l := &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: "acme"}}
		l.Spec.Licensor = "acme.example"
		l.Spec.AllowedNamespaces.Names = []string{"ml"}
		l.Spec.Terms.Actions = []v1alpha1.Action{v1alpha1.ActionInference}
		l.Spec.Terms.Purposes = []v1alpha1.Purpose{v1alpha1.PurposeInternal}
		if change != nil {
			change(l)
		}
		return l
	}
	tests := map[string]struct {
		license *v1alpha1.ModelLicense
		grant   func(*v1alpha1.ModelGrant)
		reason  v1alpha1.Reason
		stalled bool
		until   time.Time
	}{
		"counts":          {license: inForce(nil), reason: v1alpha1.ReasonReady},
		"licence missing": {reason: v1alpha1.ReasonLicenseMissing, stalled: true},
		"namespace not named": {
			license: inForce(func(l *v1alpha1.ModelLicense) { l.Spec.AllowedNamespaces.Names = []string{"other"} }),
			reason:  v1alpha1.ReasonNamespaceNotAllowed, stalled: true,
		},
		"not yet": {
			license: inForce(func(l *v1alpha1.ModelLicense) { l.Spec.Terms.NotBefore = at(time.Hour) }),
			reason:  v1alpha1.ReasonNotYetValid, until: testNow.Add(time.Hour),
		},
		"expired": {
			license: inForce(func(l *v1alpha1.ModelLicense) { l.Spec.Terms.NotAfter = at(-time.Second) }),
			reason:  v1alpha1.ReasonExpired, stalled: true,
		},
		"action not licensed": {
			license: inForce(nil), grant: func(g *v1alpha1.ModelGrant) { g.Spec.Action = v1alpha1.ActionMerge },
			reason: v1alpha1.ReasonActionNotLicensed, stalled: true,
		},
		"purpose not licensed": {
			license: inForce(nil), grant: func(g *v1alpha1.ModelGrant) { g.Spec.Purpose = v1alpha1.PurposeCommercial },
			reason: v1alpha1.ReasonPurposeNotLicensed, stalled: true,
		},
		"selector cannot be parsed": {
			license: inForce(nil),
			grant: func(g *v1alpha1.ModelGrant) {
				g.Spec.PodSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
			},
			reason: v1alpha1.ReasonInvalidSelector, stalled: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			grant := &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "chat", Generation: 4}}
			grant.Spec.LicenseName, grant.Spec.Action, grant.Spec.Purpose = "acme", v1alpha1.ActionInference, v1alpha1.PurposeInternal
			if tc.grant != nil {
				tc.grant(grant)
			}
			verdict := entitlement.DecideGrant(grant, tc.license, nil, testNow)
			status := grantStatus(grant, tc.license, verdict)
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if ready == nil || ready.Reason != string(tc.reason) || (ready.Status == metav1.ConditionTrue) != (tc.reason == v1alpha1.ReasonReady) || ready.Message == "" {
				t.Errorf("Ready = %+v, want reason %s", ready, tc.reason)
			}
			if got := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled); got != tc.stalled {
				t.Errorf("Stalled = %v, want %v", got, tc.stalled)
			}
			if !verdict.Until.Equal(tc.until) {
				t.Errorf("changes at %v, want %v", verdict.Until, tc.until)
			}
			if status.ObservedGeneration != 4 {
				t.Errorf("observedGeneration = %d, want 4", status.ObservedGeneration)
			}
		})
	}
}
