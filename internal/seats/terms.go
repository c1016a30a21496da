package seats

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// defaultLease is the default of a licence's leaseDuration, minLease and maxLease are its bounds.
	defaultLease = time.Hour
	minLease     = time.Minute
	maxLease     = 24 * time.Hour
)

// Terms are what a ledger keeps of its licence's terms. The zero value: nothing is known.
type Terms struct {
	// OnRevoke and Enforcement are the licence's.
	OnRevoke    v1alpha1.RevocationPolicy
	Enforcement v1alpha1.EnforcementMode
	// Lease is the longest lease that a node may have by now.
	Lease time.Duration
}

// TermsOf are the terms of a licence, with its own lease.
func TermsOf(license *v1alpha1.ModelLicense) Terms {
	t := Terms{
		OnRevoke:    cmp.Or(license.Spec.Terms.OnRevoke, v1alpha1.RevokeEvict),
		Enforcement: cmp.Or(license.Spec.Enforcement, v1alpha1.EnforcementEnforce),
		Lease:       defaultLease,
	}
	if d := license.Spec.Terms.LeaseDuration; d != nil {
		t.Lease = min(max(d.Duration, minLease), maxLease) // a ledger with another could not be read
	}
	return t
}

// Evicts says whether pods are ended that lose the licence: what replaced those of one that does not enforce would be admitted
// again. Where nothing is known they are, which is the default.
func (t Terms) Evicts() bool {
	relaxed := t.Enforcement == v1alpha1.EnforcementWarn || t.Enforcement == v1alpha1.EnforcementAudit
	return t.OnRevoke != v1alpha1.RevokeWipeKey && !relaxed
}

// Follows says whether terms are what a licence makes of them: its own, but for a lease that may be longer yet.
func (t Terms) Follows(license *v1alpha1.ModelLicense) bool { return t == t.taking(TermsOf(license)) }

// taking are a licence's new terms after t.
func (t Terms) taking(next Terms) Terms {
	next.Lease = max(next.Lease, t.Lease)
	return next
}

// Terms are what the ledger keeps of the licence's terms.
func (l *Ledger) Terms() Terms { return l.terms }

// ShortenLease is the Change for when no node can have the longest lease any more that the ledger knows, From: since To has been
// the licence's for as long. Where the ledger knows another by now, nothing changes.
type ShortenLease struct{ From, To time.Duration }

func (c ShortenLease) apply(l *Ledger) Result {
	if l.terms.Lease != c.From || c.To >= c.From {
		return Result{}
	}
	l.terms.Lease = c.To
	return Result{Changed: true}
}

func (t Terms) stored() *v1alpha1.SeatTerms {
	if t == (Terms{}) {
		return nil
	}
	return &v1alpha1.SeatTerms{OnRevoke: t.OnRevoke, Enforcement: t.Enforcement, LeaseDuration: metav1.Duration{Duration: t.Lease}}
}

// termsFrom reads stored terms.
func termsFrom(stored *v1alpha1.SeatTerms) (Terms, error) {
	if stored == nil {
		return Terms{}, nil
	}
	t := Terms{Lease: stored.LeaseDuration.Duration}
	if t.Lease < minLease || t.Lease > maxLease {
		return Terms{}, fmt.Errorf("leaseDuration %s is not from %s to %s", t.Lease, minLease, maxLease)
	}
	// What is kept is the constant, not a text for each ledger.
	switch stored.OnRevoke {
	case v1alpha1.RevokeEvict:
		t.OnRevoke = v1alpha1.RevokeEvict
	case v1alpha1.RevokeWipeKey:
		t.OnRevoke = v1alpha1.RevokeWipeKey
	default:
		return Terms{}, fmt.Errorf("onRevoke %q is not known", stored.OnRevoke)
	}
	switch stored.Enforcement {
	case v1alpha1.EnforcementEnforce:
		t.Enforcement = v1alpha1.EnforcementEnforce
	case v1alpha1.EnforcementWarn:
		t.Enforcement = v1alpha1.EnforcementWarn
	case v1alpha1.EnforcementAudit:
		t.Enforcement = v1alpha1.EnforcementAudit
	default:
		return Terms{}, fmt.Errorf("enforcement %q is not known", stored.Enforcement)
	}
	return t, nil
}
