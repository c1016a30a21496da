package seats_test

import (
	"testing"
	"time"

	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// TestGiveBackSparesNewSeats: who was about to give back a seat, and was held up, takes none that was taken since.
func TestGiveBackSparesNewSeats(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	license := builders.License("chat").Repository("registry.example.com/models/chat").UID("l").Generation(1).Obj()
	take := seats.Take{Pod: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}, Generation: 1, Since: noon}
	until := noon.Add(time.Hour)
	mark, back := seats.Expire{Pod: take.Pod, Until: until}, seats.GiveBack{Pod: take.Pod, Until: until}
	for name, test := range map[string]struct {
		changes []seats.Change
		left    int
	}{
		"marked":                  {[]seats.Change{take, mark, back}, 0},
		"never marked":            {[]seats.Change{take, back}, 1},
		"taken anew":              {[]seats.Change{take, mark, back, take, back}, 1},
		"marked again by another": {[]seats.Change{take, seats.Expire{Pod: take.Pod, Until: until.Add(time.Second)}, back}, 1},
		"without a mark asked":    {[]seats.Change{take, seats.GiveBack{Pod: take.Pod}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := seats.Empty(license)
			ledger.Apply(append([]seats.Change{seats.Limit{License: license, Confirmed: true}}, test.changes...)...)
			if got := ledger.Len(); got != test.left {
				t.Errorf("%d seats are left, want %d", got, test.left)
			}
		})
	}
}

// TestEndSparesRenewedSeats: an end that rests on the end of a lease does not end a seat whose lease goes on.
func TestEndSparesRenewedSeats(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	license := builders.License("chat").Repository("registry.example.com/models/chat").UID("l").Generation(1).Obj()
	take := seats.Take{Pod: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}, Generation: 1, Since: noon}
	until := noon.Add(time.Hour)
	expire, renew, end := seats.Expire{Pod: take.Pod, Until: until}, seats.Renew{Pod: take.Pod}, seats.End{Pod: take.Pod, At: until, Until: until}
	for name, test := range map[string]struct {
		changes []seats.Change
		left    int
	}{
		"the lease is over":      {[]seats.Change{take, expire, end}, 0},
		"renewed":                {[]seats.Change{take, expire, renew, end}, 1},
		"renewed, and cut again": {[]seats.Change{take, expire, renew, seats.Expire{Pod: take.Pod, Until: until.Add(time.Second)}, end}, 1},
		"proven":                 {[]seats.Change{take, seats.End{Pod: take.Pod, At: until}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := seats.Empty(license)
			ledger.Apply(append([]seats.Change{seats.Limit{License: license, Confirmed: true}}, test.changes...)...)
			if got := ledger.Len(); got != test.left {
				t.Errorf("%d seats are left, want %d", got, test.left)
			}
		})
	}
}
