package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

func TestRenewalsAreCounted(t *testing.T) {
	renewed := &protocol.RenewResponse{Verdict: protocol.Renewed}
	kept := &protocol.RenewResponse{Verdict: protocol.Keep, Reason: v1alpha1.ReasonNoSeat}
	for name, tc := range map[string]struct {
		answer     *protocol.RenewResponse
		err        error
		notRenewed int
		says       []string
	}{
		"renewed":            {answer: renewed, says: []string{"2 renewed, 0/s"}},
		"kept":               {answer: kept, notRenewed: 1, says: []string{"NOT ALL WERE RENEWED", "1 answered Keep NoSeat", "1 renewed"}},
		"asked too often":    {err: fmt.Errorf("calling: %w", &unanswered{http.StatusTooManyRequests, "wait"}), notRenewed: 1, says: []string{"NOT ALL WERE RENEWED: 1 were refused with 429"}},
		"another status":     {err: &unanswered{http.StatusInternalServerError, "oh"}, notRenewed: 1, says: []string{"1 failed, the first: 500 Internal Server Error: oh"}},
		"nobody answers":     {err: errors.New("connection refused"), notRenewed: 1, says: []string{"1 failed, the first: connection refused"}},
		"an unknown verdict": {answer: &protocol.RenewResponse{}, notRenewed: 1, says: []string{"NOT ALL WERE RENEWED"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &renewals{}
			r.count(renewed, nil)
			r.count(tc.answer, tc.err)
			if got := r.notRenewed(); got != tc.notRenewed {
				t.Errorf("%d were not renewed, want %d", got, tc.notRenewed)
			}
			for _, want := range tc.says {
				if !strings.Contains(r.String(), want) {
					t.Errorf("%q does not say %q", r, want)
				}
			}
			if all := tc.notRenewed == 0; strings.HasPrefix(r.String(), "NOT ALL") == all {
				t.Errorf("says %q", r)
			}
		})
	}
}

func TestDriversHaveAddressesAndNodes(t *testing.T) {
	seen := map[string]int{}
	for i := range 5000 {
		a := addressOf(i)
		if !a.IsLoopback() || a.String() == "127.0.0.1" {
			t.Fatalf("driver %d has the address %v", i, a)
		}
		if other, taken := seen[a.String()]; taken {
			t.Fatalf("drivers %d and %d share %v", other, i, a)
		}
		seen[a.String()] = i
	}
	p := full()
	for i := range p.Held {
		// hold puts the i-th pod on this node, and the driver is that of the same.
		if nodeName(i%p.Nodes) != nodeName(p.driverOf(i)) {
			t.Fatalf("the lease of pod %d is renewed by the driver of another node", i)
		}
	}
}
