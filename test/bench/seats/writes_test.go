package main

import (
	"strings"
	"testing"
)

const audited = `{"verb":"patch","objectRef":{"resource":"pods","subresource":"status"}}
{"verb":"patch","objectRef":{"resource":"pods"}}
{"verb":"create","objectRef":{"resource":"modelauditrecords"}}
{"verb":"create","objectRef":{"resource":"tokenreviews"}}
{"verb":"update","objectRef":{"resource":"leases"}}
{"verb":"patch","objectRef":{"resource":"pods","subresource":"status"}}
{"verb":"patch","objectRef":{"resou`

func TestCountWrites(t *testing.T) {
	counted, read, err := countWrites(strings.NewReader(audited))
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(strings.LastIndexByte(audited, '\n') + 1); read != want {
		t.Errorf("read %d bytes, want %d: a line that is not complete is read later", read, want)
	}
	if got := counted.String(); got != "1 create modelauditrecords, 1 create tokenreviews, 1 patch pods, 2 patch pods/status, 1 update leases" {
		t.Errorf("counted %s", got)
	}
	if got := counted.perPod(2); got != 1.5 {
		t.Errorf("%v writes a pod, want 1.5: neither the audit log, questions nor leases are for a pod's sake", got)
	}
	if _, _, err := countWrites(strings.NewReader("no JSON\n")); err == nil {
		t.Error("what is no event was counted")
	}
}

func TestPlans(t *testing.T) {
	small := short()
	small.Licenses = 20
	for name, tc := range map[string]struct {
		plan plan
		ok   bool
	}{
		"full":                              {full(), true},
		"short":                             {short(), true},
		"nothing":                           {plan{}, false},
		"more pods than licences have room": {small, false},
	} {
		if err := tc.plan.validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
