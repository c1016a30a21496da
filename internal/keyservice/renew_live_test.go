package keyservice

import (
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// The cache is behind. What the API server has counts where a key would be wiped, and where the operator called attention to
// the pod; other changes of a pod are no reason to ask for more than the pod.
func TestRenewalWithAStaleCache(t *testing.T) {
	revoke := func(w *world) { w.grants = nil }
	call := func(w *world) {
		w.pod.Annotations = map[string]string{v1alpha1.AnnotationAttention: now.Format(time.RFC3339Nano)}
	}
	tests := map[string]struct {
		live, cached func(*world)
		early        bool
		verdict      protocol.Verdict
		rights       int
	}{
		"revoked, not told yet":         {live: revoke, verdict: protocol.Renewed},
		"revoked, pod changed":          {live: revoke, early: true, verdict: protocol.Renewed},
		"revoked, attention called":     {live: func(w *world) { revoke(w); call(w) }, early: true, verdict: protocol.Wipe, rights: 1},
		"revoked, written on the pod":   {live: func(w *world) { revoke(w); w.pod.Status.Conditions = revoked() }, early: true, verdict: protocol.Wipe, rights: 1},
		"attention called, not revoked": {live: call, early: true, verdict: protocol.Renewed, rights: 1},
		"granted again, not told yet":   {cached: revoke, verdict: protocol.Renewed, rights: 1},
		"both say so":                   {live: revoke, cached: revoke, verdict: protocol.Wipe, rights: 1},
		"force-deleted":                 {live: func(w *world) { w.pod = nil }, cached: revoke, verdict: protocol.Keep},
		"another pod of the name":       {live: func(w *world) { w.pod.UID = "new" }, cached: revoke, verdict: protocol.Keep},
		"node relabelled": {live: func(w *world) {
			call(w)
			w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
		}, early: true, verdict: protocol.Wipe, rights: 1},
		"rights cannot be read": {live: func(w *world) { call(w); w.failing["Rights"] = errBroken }, early: true, verdict: protocol.Keep, rights: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cachedLike(t)
			if tc.live != nil {
				tc.live(w)
			}
			if tc.cached != nil {
				tc.cached(w.stale)
			}
			answer := w.renewed(t, w.handlerWithSeat(t), tc.early)
			if answer.Verdict != tc.verdict || w.lives["rights"] != tc.rights {
				t.Errorf("answer %+v, read %v", answer, w.lives)
			}
		})
	}
}

// handlerWithSeat is a handler for which the world's pod holds its seat, also where it is gone.
func (w *world) handlerWithSeat(t *testing.T) http.Handler {
	t.Helper()
	w.seats = seatFor(podUID, node)
	return w.handler(t)
}

func revoked() []corev1.PodCondition {
	return []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionFalse, Reason: string(v1alpha1.ReasonRevoked)}}
}

// A seat beyond the limits ends when the controller says that there is no room for it.
func TestSurgeEnds(t *testing.T) {
	surge := func() []seats.Change {
		others := seatFor("old", node)
		return append(others, seats.Take{
			Pod: podUID, Grant: seats.Grant{Namespace: namespace, Name: "chat"}, Generation: 3, Since: now.Add(-time.Hour),
			Surge: &seats.SurgeFor{Pods: 1, Period: 30 * time.Minute, Replaces: []types.UID{"old"}},
		})
	}
	for name, tc := range map[string]struct {
		condition []corev1.PodCondition
		early     bool
		at        time.Time
		verdict   protocol.Verdict
	}{
		"before its time is over": {nil, true, now.Add(-31 * time.Minute), protocol.Renewed},
		"over":                    {nil, false, now, protocol.Keep},
		"over, and said so":       {revoked(), true, now, protocol.Wipe},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limits = []string{"pods", "1"}
			w.seats = surge()
			w.pod.Status.Conditions = tc.condition
			w.clock.SetTime(tc.at)
			if answer := w.renewed(t, w.handler(t), tc.early); answer.Verdict != tc.verdict {
				t.Errorf("answer %+v", answer)
			}
		})
	}
}

// What one node has looked up live is bounded. Beyond that nothing is wiped, and what the cache allows is renewed.
func TestLiveReadsOfOneNodeAreBounded(t *testing.T) {
	w := newWorld(t)
	w.cachedLike(t)
	w.stale.grants = nil
	handler := w.handlerWithSeat(t)
	for range liveRate.Burst + 50 {
		w.renewed(t, handler, true)
	}
	if w.lives["rights"] != liveRate.Burst {
		t.Errorf("read %v", w.lives)
	}
	if answer := w.renewed(t, handler, true); answer.Verdict != protocol.Keep || answer.Reason != v1alpha1.ReasonTooManyRequests {
		t.Errorf("answer %+v", answer)
	}
	w = newWorld(t)
	handler = w.handler(t)
	for range liveRate.Burst + 50 {
		if answer := w.renewed(t, handler, true); answer.Verdict != protocol.Renewed {
			t.Fatalf("answer %+v", answer)
		}
	}
	if w.lives["Pod"] != liveRate.Burst {
		t.Errorf("read %v", w.lives)
	}
}

// A tenant who makes kubelet come early again and again, by writing on a pod, does not keep a key from being wiped.
func TestEarlyRenewalsHoldUpNoWipe(t *testing.T) {
	w := newWorld(t)
	handler := w.handler(t)
	for range liveRate.Burst + 50 {
		w.renewed(t, handler, true)
	}
	w.grants = nil
	if answer := w.renewed(t, handler, true); answer.Verdict != protocol.Wipe || answer.Reason != v1alpha1.ReasonNoGrant {
		t.Errorf("answer %+v", answer)
	}
}
