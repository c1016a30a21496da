package keyservice

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// The licence says how long.
func TestLeaseDuration(t *testing.T) {
	for name, tc := range map[string]struct {
		duration *metav1.Duration
		want     int64
	}{
		"default":  {nil, 3600},
		"set":      {&metav1.Duration{Duration: 5 * time.Minute}, 300},
		"too long": {&metav1.Duration{Duration: 1000 * time.Hour}, 86400},
	} {
		w := newWorld(t)
		w.license.Spec.Terms.LeaseDuration = tc.duration
		if got := w.renewed(t, w.handler(t), false).LeaseSeconds; got != tc.want {
			t.Errorf("%s: renewed for %d s, want %d", name, got, tc.want)
		}
		var response protocol.ReleaseResponse
		if err := json.Unmarshal(w.call(t).Body.Bytes(), &response); err != nil || response.LeaseSeconds != tc.want {
			t.Errorf("%s: released for %d s, %v, want %d", name, response.LeaseSeconds, err, tc.want)
		}
	}
}

// The releases of a pod that lost its seat, or has none yet, or whose node is one too many, do not happen.
func TestReleaseNeedsASeat(t *testing.T) {
	tests := map[string]struct {
		change func(*world)
		reason v1alpha1.Reason
		status int
	}{
		"none": {func(w *world) { w.seats = []seats.Change{} }, v1alpha1.ReasonNoSeat, 503},
		"adopted beyond the limits": {func(w *world) {
			w.limits = []string{"pods", "1"}
			w.seats = append(seatFor("other", node), seats.Adopt{Pod: podUID, Grant: seats.Grant{Namespace: namespace, Name: "chat"}, Node: node, Since: now})
		}, v1alpha1.ReasonNoSeat, 503},
		"about to end": {func(w *world) {
			w.seats = append(seatFor(podUID, node), seats.Expire{Pod: podUID, Until: now.Add(time.Minute)})
		}, v1alpha1.ReasonLeaseEnding, 503},
		"a node too many": {func(w *world) {
			w.limits = []string{"nodes", "1"}
			w.seats = append(seatFor("other", "node-z"), seatFor(podUID, "")...)
		}, v1alpha1.ReasonNodeLimit, 403},
		"ledger cannot be written": {func(w *world) { w.bookErr = errBroken }, v1alpha1.ReasonLookupFailed, 503},
		"node without the labels": {func(w *world) {
			w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
		}, v1alpha1.ReasonNodeNotAllowed, 403},
		"node cannot be read": {func(w *world) {
			w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
			w.failing["Node"] = errBroken
		}, v1alpha1.ReasonLookupFailed, 503},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(w)
			answer := w.call(t)
			var refusal protocol.Error
			if err := json.Unmarshal(answer.Body.Bytes(), &refusal); err != nil || answer.Code != tc.status || refusal.Reason != tc.reason {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			if len(w.audit.appended) != 0 || len(w.audit.submitted) != 1 {
				t.Errorf("%d releases and %d refusals were logged", len(w.audit.appended), len(w.audit.submitted))
			}
			w.noSecrets(t, answer.Body.String())
		})
	}
}

// A released key stands in the ledger.
func TestReleaseIsNotedInTheLedger(t *testing.T) {
	w := newWorld(t)
	w.seats = append(seatFor(podUID, ""), seats.Wipe{Pod: podUID})
	if answer := w.call(t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	if h, ok := w.book.holder(podUID); !ok || !h.Released || h.Wiped || h.Node != node {
		t.Errorf("holder %+v, %t", h, ok)
	}
}

// A pod that runs, and asks again in the grace period, has its key; so it is after a restart of its node.
func TestReleaseInGrace(t *testing.T) {
	w := newWorld(t)
	w.license.Spec.Terms.NotAfter = &metav1.Time{Time: now.Add(-time.Minute)}
	w.license.Spec.Terms.GracePeriod = &metav1.Duration{Duration: time.Hour}
	if answer := w.call(t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	w = newWorld(t)
	w.license.Spec.Terms.NotAfter = &metav1.Time{Time: now.Add(-time.Minute)}
	w.license.Spec.Terms.GracePeriod = &metav1.Duration{Duration: time.Hour}
	w.seats = []seats.Change{}
	if answer := w.call(t); !strings.Contains(answer.Body.String(), string(v1alpha1.ReasonNoSeat)) {
		t.Errorf("without a seat: status %d: %s", answer.Code, answer.Body)
	}
}
