package entitlement

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// period is the time of a licence or of a grant.
type period struct {
	notBefore, notAfter *metav1.Time
	grace               time.Duration
}

func licensePeriod(l *v1alpha1.ModelLicense) period {
	return newPeriod(l.Spec.Terms.NotBefore, l.Spec.Terms.NotAfter, l.Spec.Terms.GracePeriod)
}

func grantPeriod(g *v1alpha1.ModelGrant) period {
	return newPeriod(g.Spec.NotBefore, g.Spec.NotAfter, g.Spec.GracePeriod)
}

func newPeriod(notBefore, notAfter *metav1.Time, grace *metav1.Duration) period {
	p := period{notBefore: notBefore, notAfter: notAfter}
	if grace != nil && grace.Duration > 0 {
		p.grace = grace.Duration
	}
	return p
}

// phase is where in a period a moment lies.
type phase int

const (
	before phase = iota
	within
	inGrace
	over
)

// at says where now lies: from notBefore on within, from notAfter on in grace, from the end of the grace period on over.
func (p period) at(now time.Time) phase {
	switch {
	case p.notBefore != nil && now.Before(p.notBefore.Time):
		return before
	case p.notAfter == nil || now.Before(p.notAfter.Time):
		return within
	case now.Before(p.graceEnd()):
		return inGrace
	}
	return over
}

// graceEnd is when the grace period ends; zero where the period does not end.
func (p period) graceEnd() time.Time {
	if p.notAfter == nil {
		return time.Time{}
	}
	return p.notAfter.Add(p.grace)
}

// Validity is the time in which a grant of a licence entitles, or the licence alone where g is nil: from when on, until
// when, and until when pods that run go on. What is zero is not bounded. Of two bounds the narrower counts.
func Validity(l *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant) (from, until, graceUntil time.Time) {
	for _, p := range periods(l, g) {
		if p.notBefore != nil && p.notBefore.After(from) {
			from = p.notBefore.Time
		}
		if p.notAfter != nil {
			until, graceUntil = earlier(until, p.notAfter.Time), earlier(graceUntil, p.graceEnd())
		}
	}
	return from, until, graceUntil
}

// NextChange is the next moment after now at which a licence, or its grant g where that is not nil, begins, ends, or
// ends its grace period; zero where there is none.
func NextChange(l *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant, now time.Time) time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if t.After(now) {
			next = earlier(next, t)
		}
	}
	for _, p := range periods(l, g) {
		if p.notBefore != nil {
			consider(p.notBefore.Time)
		}
		if p.notAfter != nil {
			consider(p.notAfter.Time)
			consider(p.graceEnd())
		}
	}
	return next
}

func periods(l *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant) []period {
	all := []period{licensePeriod(l)}
	if g != nil {
		all = append(all, grantPeriod(g))
	}
	return all
}

// earlier is the earlier of two moments, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
