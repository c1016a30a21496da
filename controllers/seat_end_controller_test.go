package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

func seatLicense(limits corev1.ResourceList) *v1alpha1.ModelLicense {
	l := &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: "chat", UID: "5a5b5c5d-0000-4000-8000-000000000000", Generation: 3}}
	l.Spec.Terms.Limits = limits
	return l
}

func leasing(d time.Duration) *v1alpha1.ModelLicense {
	l := seatLicense(nil)
	l.Spec.Terms.LeaseDuration = &metav1.Duration{Duration: d}
	l.Spec.Keys = []v1alpha1.ModelKey{{Name: "v1"}}
	return l
}

// TestSeatMemory: what nodes were given counts, not what the licence says by now.
func TestSeatMemory(t *testing.T) {
	ledger := withoutTerms(t)
	at := func(m *seatMemory, l *v1alpha1.ModelLicense, after, lease time.Duration, keys keyed) {
		t.Helper()
		m.note(l, ledger, seatNow.Add(after))
		if m.terms.lease != lease || m.terms.keys != keys {
			t.Errorf("after %s: lease %s, keys %d; want %s, %d", after, m.terms.lease, m.terms.keys, lease, keys)
		}
	}
	m := newSeatMemory()
	at(m, nil, 0, maxLease, keysUnknown)
	at(m, leasing(2*time.Hour), 0, 2*time.Hour, keysSome)
	at(m, nil, time.Minute, 2*time.Hour, keysSome)
	at(m, leasing(5*time.Minute), time.Hour, 2*time.Hour, keysSome)
	at(m, leasing(5*time.Minute), 2*time.Hour, 2*time.Hour, keysSome)
	at(m, leasing(time.Minute), 150*time.Minute, 2*time.Hour, keysSome)
	at(m, leasing(time.Minute), 3*time.Hour, time.Minute, keysSome)
	at(m, leasing(4*time.Hour), 3*time.Hour, 4*time.Hour, keysSome)
	at(m, seatLicense(nil), 3*time.Hour, 4*time.Hour, keysNone)
	at(m, seatLicense(nil), 9*time.Hour, time.Hour, keysNone)

	if m.terms.limitsNodes {
		t.Error("nodes are not limited")
	}
	m.note(nil, seats.Empty(seatLicense(corev1.ResourceList{resourceNodes: resource.MustParse("2")})), seatNow)
	if !m.terms.limitsNodes {
		t.Error("nodes are limited")
	}
}

// withoutTerms is a ledger that keeps no terms.
func withoutTerms(t *testing.T) *seats.Ledger {
	t.Helper()
	ledger, err := seats.Decode(&v1alpha1.ModelSeats{})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// TestSeatMemoryOfTheLedger: a new leader knows which leases nodes were given, and the ledger forgets one once it is over.
func TestSeatMemoryOfTheLedger(t *testing.T) {
	ledger := seats.Empty(leasing(4 * time.Hour))
	m := newSeatMemory()
	at := func(l *v1alpha1.ModelLicense, after, lease time.Duration, shortens bool) {
		t.Helper()
		if l != nil {
			ledger.Apply(seats.Limit{License: l})
		}
		m.note(l, ledger, seatNow.Add(after))
		if m.terms.lease != lease {
			t.Errorf("after %s: lease %s, want %s", after, m.terms.lease, lease)
		}
		shorten, over := m.shorten(ledger)
		if over != shortens {
			t.Errorf("after %s: shortens %t", after, over)
		}
		if over {
			ledger.Apply(shorten)
		}
	}
	at(nil, 0, 4*time.Hour, false)
	m = newSeatMemory()
	at(leasing(5*time.Minute), 0, 4*time.Hour, false)
	at(leasing(5*time.Minute), time.Hour, 4*time.Hour, false)
	m = newSeatMemory() // another leader, who cannot know since when
	at(leasing(5*time.Minute), 2*time.Hour, 4*time.Hour, false)
	at(leasing(5*time.Minute), 6*time.Hour, 5*time.Minute, true)
	if got := ledger.Terms().Lease; got != 5*time.Minute {
		t.Errorf("the ledger knows a lease of %s", got)
	}
	at(leasing(5*time.Minute), 6*time.Hour+time.Minute, 5*time.Minute, false)

	// Raised by others and lowered again, unseen.
	ledger.Apply(seats.Limit{License: leasing(4 * time.Hour)})
	at(leasing(time.Minute), 7*time.Hour, 4*time.Hour, false)
	at(leasing(time.Minute), 11*time.Hour, time.Minute, true)
	at(leasing(2*time.Hour), 11*time.Hour, 2*time.Hour, false)
	at(leasing(time.Minute), 11*time.Hour, 2*time.Hour, false)
	at(leasing(time.Minute), 13*time.Hour, time.Minute, true)

	// Raised again before the longer one was over, and lowered after: nodes have it until then.
	at(leasing(4*time.Hour), 14*time.Hour, 4*time.Hour, false)
	at(leasing(time.Minute), 15*time.Hour, 4*time.Hour, false)
	at(leasing(4*time.Hour), 16*time.Hour, 4*time.Hour, false)
	at(leasing(4*time.Hour), 20*time.Hour, 4*time.Hour, false)
	at(leasing(time.Minute), 21*time.Hour, 4*time.Hour, false)
	if got := ledger.Terms().Lease; got != 4*time.Hour {
		t.Errorf("the ledger knows a lease of %s, while nodes have one of 4h", got)
	}
	at(leasing(time.Minute), 25*time.Hour, time.Minute, true)
}

func TestLedgerFollowsLicense(t *testing.T) {
	limits := func(pods string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourcePods: resource.MustParse(pods)}
	}
	later := func(n int64, l *v1alpha1.ModelLicense) *v1alpha1.ModelLicense { l.Generation += n; return l }
	wiping, longer, shorter := seatLicense(limits("4")), leasing(2*time.Hour), leasing(time.Minute)
	wiping.Spec.Terms.OnRevoke = v1alpha1.RevokeWipeKey
	longer.Spec.Terms.Limits, shorter.Spec.Terms.Limits = limits("4"), limits("4")
	another := seatLicense(limits("4"))
	another.UID = "6a5b5c5d-0000-4000-8000-000000000000"
	for name, test := range map[string]struct {
		license *v1alpha1.ModelLicense
		want    bool
	}{
		"the same":              {seatLicense(limits("4")), true},
		"lowered":               {later(1, seatLicense(limits("3"))), false},
		"changed elsewhere":     {later(1, seatLicense(limits("4"))), false},
		"the cache is behind":   {later(-1, seatLicense(limits("9"))), false},
		"the ledger was edited": {seatLicense(limits("5")), false},
		"another licence":       {another, false},
		"the ledger loosens":    {wiping, false},
		"a longer lease":        {longer, false},
		"a shorter lease":       {shorter, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := follows(seats.Empty(seatLicense(limits("4"))), test.license); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
