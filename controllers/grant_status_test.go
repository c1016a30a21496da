package controllers

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
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
			status, _ := grantStatus(grant, tc.license, verdict, testNow)
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

// TestGrantTimes: which end counts, when a grant is looked at again for its own times, and what is said of its end.
func TestGrantTimes(t *testing.T) {
	tests := map[string]struct {
		license, grant func(notBefore, notAfter **metav1.Time, grace **metav1.Duration)
		reason         v1alpha1.Reason
		waits          bool
		until, expires time.Time
		expiring       v1alpha1.Reason
		remedy         string
	}{
		"no times": {reason: v1alpha1.ReasonReady},
		"the licence's alone, which has a timer itself": {
			license: func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(2 * day) },
			reason:  v1alpha1.ReasonReady, expires: testNow.Add(2 * day), expiring: v1alpha1.ReasonExpiresIn3Days, remedy: "ask acme.example to renew ModelLicense acme",
		},
		"its own, sooner": {
			license: func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(50 * day) },
			grant:   func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(10 * day) },
			reason:  v1alpha1.ReasonReady, until: testNow.Add(7 * day), expires: testNow.Add(10 * day), expiring: v1alpha1.ReasonExpiresIn14Days, remedy: "set a later spec.notAfter",
		},
		"its own, later than the licence's": {
			license: func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(50 * day) },
			grant:   func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(60 * day) },
			reason:  v1alpha1.ReasonReady, until: testNow.Add(36 * day), expires: testNow.Add(50 * day),
		},
		"not begun": {
			grant:  func(notBefore, _ **metav1.Time, _ **metav1.Duration) { *notBefore = at(time.Hour) },
			reason: v1alpha1.ReasonGrantNotYetValid, waits: true, until: testNow.Add(time.Hour),
		},
		"in its grace period": {
			grant: func(_, notAfter **metav1.Time, grace **metav1.Duration) {
				*notAfter, *grace = at(-time.Hour), &metav1.Duration{Duration: 2 * time.Hour}
			},
			reason: v1alpha1.ReasonInGrace, until: testNow.Add(time.Hour), expires: testNow.Add(time.Hour), expiring: v1alpha1.ReasonGracePeriod, remedy: "set a later spec.notAfter",
		},
		"over": {
			grant:  func(_, notAfter **metav1.Time, _ **metav1.Duration) { *notAfter = at(-time.Hour) },
			reason: v1alpha1.ReasonGrantExpired, expires: testNow.Add(-time.Hour),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			license, grant := builders.License("acme").Obj(), builders.Grant("ml", "chat", "acme").Obj()
			if tc.license != nil {
				tc.license(&license.Spec.Terms.NotBefore, &license.Spec.Terms.NotAfter, &license.Spec.Terms.GracePeriod)
			}
			if tc.grant != nil {
				tc.grant(&grant.Spec.NotBefore, &grant.Spec.NotAfter, &grant.Spec.GracePeriod)
			}
			status, until := grantStatus(grant, license, entitlement.DecideGrant(grant, license, nil, testNow), testNow)
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if ready.Reason != string(tc.reason) || meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling) != tc.waits {
				t.Errorf("Ready = %+v, want %s", ready, tc.reason)
			}
			if !until.Equal(tc.until) {
				t.Errorf("changes at %v, want %v", until, tc.until)
			}
			if got := status.Expires; (got == nil) != tc.expires.IsZero() || got != nil && !got.Time.Equal(tc.expires) {
				t.Errorf("expires at %v, want %v", got, tc.expires)
			}
			expiring := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionExpiringSoon)
			if expiringReason(status.Conditions) != string(tc.expiring) || expiring != nil && !strings.HasSuffix(expiring.Message, "; "+tc.remedy) {
				t.Errorf("ExpiringSoon = %+v, want %s and %q", expiring, tc.expiring, tc.remedy)
			}
		})
	}
}
