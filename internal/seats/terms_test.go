package seats

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func termed(generation int64, onRevoke v1alpha1.RevocationPolicy, enforcement v1alpha1.EnforcementMode, lease time.Duration) *v1alpha1.ModelLicense {
	l := license(generation)
	l.Spec.Terms.OnRevoke, l.Spec.Enforcement = onRevoke, enforcement
	if lease > 0 {
		l.Spec.Terms.LeaseDuration = &metav1.Duration{Duration: lease}
	}
	return l
}

// TestTermsFollow: the ledger's terms are the licence's, with the longest lease of all, through being stored.
func TestTermsFollow(t *testing.T) {
	l := Empty(termed(1, "", "", 0))
	expect := func(want Terms, changed bool, result Result) {
		t.Helper()
		var stored v1alpha1.ModelSeats
		l.Encode(&stored)
		again, err := Decode(&stored)
		if err != nil {
			t.Fatal(err)
		}
		if l.Terms() != want || again.Terms() != want || result.Changed != changed {
			t.Errorf("terms %+v, stored %+v, changed %t; want %+v, %t", l.Terms(), again.Terms(), result.Changed, want, changed)
		}
	}
	limit := func(license *v1alpha1.ModelLicense) Result {
		return must(t, l, Limit{License: license, Confirmed: true})[0]
	}
	enforce, audits := v1alpha1.EnforcementEnforce, v1alpha1.EnforcementAudit
	expect(Terms{v1alpha1.RevokeEvict, enforce, time.Hour}, false, Result{})
	expect(Terms{v1alpha1.RevokeWipeKey, audits, 4 * time.Hour}, true, limit(termed(2, v1alpha1.RevokeWipeKey, audits, 4*time.Hour)))
	expect(Terms{v1alpha1.RevokeWipeKey, audits, 4 * time.Hour}, false, limit(termed(2, v1alpha1.RevokeWipeKey, audits, 4*time.Hour)))
	expect(Terms{v1alpha1.RevokeEvict, enforce, 4 * time.Hour}, true, limit(termed(3, "", "", time.Minute)))
	anew := termed(1, "", "", time.Minute)
	anew.UID = "license-2"
	expect(Terms{v1alpha1.RevokeEvict, enforce, 4 * time.Hour}, true, limit(anew))
	shorten := func(from, to time.Duration) Result { return must(t, l, ShortenLease{From: from, To: to})[0] }
	expect(Terms{v1alpha1.RevokeEvict, enforce, 4 * time.Hour}, false, shorten(2*time.Hour, time.Minute))
	expect(Terms{v1alpha1.RevokeEvict, enforce, 4 * time.Hour}, false, shorten(4*time.Hour, 5*time.Hour))
	expect(Terms{v1alpha1.RevokeEvict, enforce, time.Minute}, true, shorten(4*time.Hour, time.Minute))

	// A ledger of an earlier version, or whose terms were removed by hand.
	var stored v1alpha1.ModelSeats
	l.Encode(&stored)
	stored.Spec.Terms = nil
	var err error
	if l, err = Decode(&stored); err != nil || l.Terms() != (Terms{}) || l.Terms().Follows(anew) {
		t.Fatalf("terms %+v, %v", l.Terms(), err)
	}
	expect(Terms{v1alpha1.RevokeEvict, enforce, time.Minute}, true, limit(anew))
}

func TestTermsEvict(t *testing.T) {
	for _, test := range []struct {
		onRevoke    v1alpha1.RevocationPolicy
		enforcement v1alpha1.EnforcementMode
		want        bool
	}{
		{"", "", true},
		{v1alpha1.RevokeEvict, v1alpha1.EnforcementEnforce, true},
		{v1alpha1.RevokeWipeKey, v1alpha1.EnforcementEnforce, false},
		{v1alpha1.RevokeEvict, v1alpha1.EnforcementWarn, false},
		{v1alpha1.RevokeEvict, v1alpha1.EnforcementAudit, false},
	} {
		if got := (Terms{OnRevoke: test.onRevoke, Enforcement: test.enforcement}).Evicts(); got != test.want {
			t.Errorf("%+v: evicts %t", test, got)
		}
	}
}

func TestDecodeRefusesTerms(t *testing.T) {
	for says, terms := range map[string]v1alpha1.SeatTerms{
		"leaseDuration 25h0m0s":          {OnRevoke: v1alpha1.RevokeEvict, Enforcement: v1alpha1.EnforcementEnforce, LeaseDuration: metav1.Duration{Duration: 25 * time.Hour}},
		"leaseDuration 1s":               {OnRevoke: v1alpha1.RevokeEvict, Enforcement: v1alpha1.EnforcementEnforce, LeaseDuration: metav1.Duration{Duration: time.Second}},
		`onRevoke "Spare" is not`:        {OnRevoke: "Spare", Enforcement: v1alpha1.EnforcementEnforce, LeaseDuration: metav1.Duration{Duration: time.Hour}},
		`enforcement "Sometimes" is not`: {OnRevoke: v1alpha1.RevokeEvict, Enforcement: "Sometimes", LeaseDuration: metav1.Duration{Duration: time.Hour}},
	} {
		_, err := Decode(&v1alpha1.ModelSeats{Spec: v1alpha1.ModelSeatsSpec{Terms: &terms}})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %s", err, says)
		}
	}
}
