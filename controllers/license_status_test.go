package controllers

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keys"
)

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *metav1.Time {
	t := metav1.NewTime(testNow.Add(d))
	return &t
}

func admissionReady(generation int64) []metav1.Condition {
	var conditions []metav1.Condition
	setCondition(&conditions, generation, v1alpha1.ConditionAdmissionReady, true, v1alpha1.ReasonAdmissionReady, "sent")
	return conditions
}

func TestLicenseStatus(t *testing.T) {
	missing := &keys.Error{Reason: v1alpha1.ReasonKeySecretMissing, Message: "Secret a is missing", Remedy: "create it"}
	oneKey := []v1alpha1.ModelKey{{Name: "v1", SecretRef: v1alpha1.SecretKeyReference{Name: "a"}}}
	tests := map[string]struct {
		keys      []v1alpha1.ModelKey
		keyErrors []error
		notBefore *metav1.Time
		notAfter  *metav1.Time
		terms     func(*v1alpha1.ModelLicenseSpec)
		selector  *metav1.LabelSelector
		admission *admissionFacts
		before    []metav1.Condition

		ready           metav1.ConditionStatus
		reason          v1alpha1.Reason
		keysReason      v1alpha1.Reason
		admissionReason v1alpha1.Reason // empty: there is no condition
		stalled         bool
		reconciling     bool
		until           time.Time
		expiring        v1alpha1.Reason // empty: there is no condition
		expires         time.Time
	}{
		"everything in place": {
			keys: oneKey, ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable,
		},
		"a selector that cannot be parsed": {
			keys: oneKey, selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team ml": "x"}},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonInvalidSelector, keysReason: v1alpha1.ReasonKeysAvailable, stalled: true,
		},
		"no key": {
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonNoKey, keysReason: v1alpha1.ReasonNoKey, stalled: true,
		},
		"a key's Secret is missing": {
			keys: oneKey, keyErrors: []error{missing},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonKeySecretMissing, keysReason: v1alpha1.ReasonKeySecretMissing, stalled: true,
		},
		"the key source is away": {
			keys: oneKey, keyErrors: []error{keys.Unavailable("Secret a", errors.New("refused"))},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonKeyUnavailable, keysReason: v1alpha1.ReasonKeyUnavailable, reconciling: true,
		},
		"not yet": {
			keys: oneKey, notBefore: at(time.Hour), notAfter: at(2 * time.Hour),
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonNotYetValid, keysReason: v1alpha1.ReasonKeysAvailable, reconciling: true, until: testNow.Add(time.Hour),
			expiring: v1alpha1.ReasonExpiresIn1Day, expires: testNow.Add(2 * time.Hour),
		},
		"in time": {
			keys: oneKey, notBefore: at(-time.Hour), notAfter: at(time.Hour),
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable, until: testNow.Add(time.Hour),
			expiring: v1alpha1.ReasonExpiresIn1Day, expires: testNow.Add(time.Hour),
		},
		"in time, for long": {
			keys: oneKey, notAfter: at(100 * day),
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable, until: testNow.Add(86 * day),
			expires: testNow.Add(100 * day),
		},
		"suspended": {
			keys: oneKey, notAfter: at(10 * day), terms: func(s *v1alpha1.ModelLicenseSpec) { s.Suspended = ptr.To(true) },
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonSuspended, keysReason: v1alpha1.ReasonKeysAvailable, stalled: true,
			until: testNow.Add(7 * day), expiring: v1alpha1.ReasonExpiresIn14Days, expires: testNow.Add(10 * day),
		},
		"in grace": {
			keys: oneKey, notAfter: at(-time.Hour), terms: func(s *v1alpha1.ModelLicenseSpec) { s.Terms.GracePeriod = &metav1.Duration{Duration: 3 * time.Hour} },
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonInGrace, keysReason: v1alpha1.ReasonKeysAvailable, stalled: true,
			until: testNow.Add(2 * time.Hour), expiring: v1alpha1.ReasonGracePeriod, expires: testNow.Add(2 * time.Hour),
		},
		"in grace that admits all": {
			keys: oneKey, notAfter: at(-time.Hour), terms: func(s *v1alpha1.ModelLicenseSpec) {
				s.Terms.GracePeriod, s.Terms.GraceAdmits = &metav1.Duration{Duration: 3 * time.Hour}, v1alpha1.GraceAdmitsAll
			},
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable,
			until: testNow.Add(2 * time.Hour), expiring: v1alpha1.ReasonGracePeriod, expires: testNow.Add(2 * time.Hour),
		},
		"covered by the webhook configurations": {
			keys: oneKey, admission: &admissionFacts{covered: true},
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable, admissionReason: v1alpha1.ReasonAdmissionReady,
		},
		"not covered yet": {
			keys: oneKey, admission: &admissionFacts{why: "about to be written"},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonAdmissionPending, keysReason: v1alpha1.ReasonKeysAvailable, reconciling: true,
			admissionReason: v1alpha1.ReasonAdmissionPending,
		},
		"unknown whether covered, and never known": {
			keys: oneKey, admission: &admissionFacts{err: errUnknownFilter},
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonAdmissionPending, keysReason: v1alpha1.ReasonKeysAvailable, reconciling: true,
			admissionReason: v1alpha1.ReasonAdmissionPending,
		},
		"unknown whether covered, but it was": {
			keys: oneKey, admission: &admissionFacts{err: errUnknownFilter}, before: admissionReady(7),
			ready: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, keysReason: v1alpha1.ReasonKeysAvailable, admissionReason: v1alpha1.ReasonAdmissionReady,
		},
		"unknown whether covered, but the spec before was": {
			keys: oneKey, admission: &admissionFacts{err: errUnknownFilter}, before: admissionReady(6),
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonAdmissionPending, keysReason: v1alpha1.ReasonKeysAvailable, reconciling: true,
			admissionReason: v1alpha1.ReasonAdmissionPending,
		},
		"neither a key nor covered": {
			admission: &admissionFacts{why: "about to be written"},
			ready:     metav1.ConditionFalse, reason: v1alpha1.ReasonNoKey, keysReason: v1alpha1.ReasonNoKey, stalled: true,
			admissionReason: v1alpha1.ReasonAdmissionPending,
		},
		"over to the second": {
			keys: oneKey, notAfter: at(0),
			ready: metav1.ConditionFalse, reason: v1alpha1.ReasonExpired, keysReason: v1alpha1.ReasonKeysAvailable, stalled: true, expires: testNow,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			license := &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: "acme", Generation: 7}}
			license.Spec.Keys = tc.keys
			license.Spec.AllowedNamespaces.Selector = tc.selector
			license.Spec.Terms.NotBefore, license.Spec.Terms.NotAfter = tc.notBefore, tc.notAfter
			if tc.terms != nil {
				tc.terms(&license.Spec)
			}
			license.Status.Conditions = tc.before
			status, until := licenseStatus(licenseFacts{license: license, keyErrors: tc.keyErrors, readyGrants: 3, admission: tc.admission, now: testNow})

			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if ready == nil || ready.Status != tc.ready || ready.Reason != string(tc.reason) || ready.ObservedGeneration != 7 || ready.Message == "" {
				t.Errorf("Ready = %+v, want %s %s for generation 7", ready, tc.ready, tc.reason)
			}
			available := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionKeysAvailable)
			if available == nil || available.Reason != string(tc.keysReason) {
				t.Errorf("KeysAvailable = %+v, want %s", available, tc.keysReason)
			}
			admission := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAdmissionReady)
			if (admission != nil) != (tc.admissionReason != "") || admission != nil && admission.Reason != string(tc.admissionReason) {
				t.Errorf("AdmissionReady = %+v, want %q", admission, tc.admissionReason)
			}
			if got := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled); got != tc.stalled {
				t.Errorf("Stalled = %v, want %v", got, tc.stalled)
			}
			if got := meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling); got != tc.reconciling {
				t.Errorf("Reconciling = %v, want %v", got, tc.reconciling)
			}
			if !until.Equal(tc.until) {
				t.Errorf("changes at %v, want %v", until, tc.until)
			}
			if got := expiringReason(status.Conditions); got != string(tc.expiring) {
				t.Errorf("ExpiringSoon for %q, want %q", got, tc.expiring)
			}
			if got := status.Expires; (got == nil) != tc.expires.IsZero() || got != nil && !got.Time.Equal(tc.expires) {
				t.Errorf("expires at %v, want %v", got, tc.expires)
			}
			if status.ObservedGeneration != 7 || status.Grants == nil || *status.Grants != 3 {
				t.Errorf("observedGeneration %d, grants %v; want 7 and 3", status.ObservedGeneration, status.Grants)
			}
		})
	}
}

func TestReadyChanged(t *testing.T) {
	var before []metav1.Condition
	setReadiness(&before, 1, false, false, v1alpha1.ReasonNoKey, "no key")
	var same []metav1.Condition
	setReadiness(&same, 2, false, false, v1alpha1.ReasonNoKey, "no key at all")
	var after []metav1.Condition
	setReadiness(&after, 2, true, false, v1alpha1.ReasonReady, "in force")
	if !readyChanged(nil, before) || readyChanged(before, same) || !readyChanged(before, after) {
		t.Error("an Event is due when Ready is first set and when its status or reason changes, and not otherwise")
	}
}
