package controllers

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func TestExpiryOf(t *testing.T) {
	end := testNow.Add(30 * day)
	grace := end.Add(72 * time.Hour)
	tests := map[string]struct {
		until, grace, now time.Time
		ends, changes     time.Time
		reason            v1alpha1.Reason
	}{
		"without end":            {now: testNow},
		"far away":               {until: end, grace: grace, now: testNow, ends: end, changes: end.Add(-14 * day)},
		"just before 14 days":    {until: end, grace: end, now: end.Add(-14*day - 1), ends: end, changes: end.Add(-14 * day)},
		"14 days":                {until: end, grace: end, now: end.Add(-14 * day), ends: end, changes: end.Add(-3 * day), reason: v1alpha1.ReasonExpiresIn14Days},
		"just before 3 days":     {until: end, grace: end, now: end.Add(-3*day - 1), ends: end, changes: end.Add(-3 * day), reason: v1alpha1.ReasonExpiresIn14Days},
		"3 days":                 {until: end, grace: end, now: end.Add(-3 * day), ends: end, changes: end.Add(-day), reason: v1alpha1.ReasonExpiresIn3Days},
		"a day":                  {until: end, grace: grace, now: end.Add(-day), ends: end, changes: end, reason: v1alpha1.ReasonExpiresIn1Day},
		"a moment":               {until: end, grace: grace, now: end.Add(-1), ends: end, changes: end, reason: v1alpha1.ReasonExpiresIn1Day},
		"over, in grace":         {until: end, grace: grace, now: end, ends: grace, changes: grace, reason: v1alpha1.ReasonGracePeriod},
		"the last of grace":      {until: end, grace: grace, now: grace.Add(-1), ends: grace, changes: grace, reason: v1alpha1.ReasonGracePeriod},
		"over":                   {until: end, grace: grace, now: grace, ends: grace},
		"over without any grace": {until: end, grace: end, now: end, ends: end},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := expiryOf(tc.until, tc.grace, tc.now)
			if !e.ends.Equal(tc.ends) || !e.changes.Equal(tc.changes) || e.reason != tc.reason || (e.message == "") != (tc.reason == "") {
				t.Errorf("%+v, want %s until %v, which changes at %v", e, tc.reason, tc.ends, tc.changes)
			}
			if (e.status() == nil) != tc.ends.IsZero() {
				t.Errorf("status says %v", e.status())
			}
			if tc.reason != "" && !strings.Contains(e.message, rfc3339(tc.grace)) {
				t.Errorf("%q does not say when keys are lost", e.message)
			}
		})
	}
}

// TestExpiryIsToldOnce: an Event at each reason, and none where the reason stays.
func TestExpiryIsToldOnce(t *testing.T) {
	end := testNow.Add(15 * day)
	var conditions []metav1.Condition
	var told []string
	for now := testNow; now.Before(end.Add(4 * day)); now = now.Add(6 * time.Hour) {
		before := append([]metav1.Condition(nil), conditions...)
		expiryOf(end, end.Add(3*day), now).set(&conditions, 1, "renew it")
		if expiryChanged(before, conditions) {
			told = append(told, expiringReason(conditions))
		}
	}
	if got := strings.Join(told, " "); got != "ExpiresIn14Days ExpiresIn3Days ExpiresIn1Day GracePeriod" {
		t.Errorf("told %q", got)
	}
	if len(conditions) > 0 {
		t.Errorf("after the end there is %+v", conditions)
	}
}
