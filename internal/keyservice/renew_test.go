package keyservice

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// post makes a call as a driver does.
func post(ctx context.Context, t *testing.T, handler http.Handler, path, bearer, address string, body any) *httptest.ResponseRecorder {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(content))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.RemoteAddr = address
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, req)
	return answer
}

// renewed calls for the renewal of the world's pod's lease, and returns the answer.
func (w *world) renewed(t *testing.T, handler http.Handler, early bool) protocol.RenewResponse {
	t.Helper()
	answer := post(t.Context(), t, handler, protocol.RenewPath, w.bearer, driverAddress, protocol.RenewRequest{Volume: w.request.Volume, Early: early})
	var response protocol.RenewResponse
	if err := json.Unmarshal(answer.Body.Bytes(), &response); err != nil || answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	return response
}

// cachedLike has the cache stay as it is while the API server's state is changed.
func (w *world) cachedLike(t *testing.T) {
	t.Helper()
	w.stale = &world{
		pod: w.pod.DeepCopy(), namespace: w.namespace.DeepCopy(), license: w.license.DeepCopy(), nodeLabels: w.nodeLabels,
		grants: []*v1alpha1.ModelGrant{w.grants[0].DeepCopy()},
	}
}

func TestRenew(t *testing.T) {
	end := func(at time.Time) func(*world) {
		return func(w *world) { w.license.Spec.Terms.NotAfter = &metav1.Time{Time: at} }
	}
	grace := func(w *world, d time.Duration) { w.license.Spec.Terms.GracePeriod = &metav1.Duration{Duration: d} }
	tests := map[string]struct {
		change  func(*world)
		verdict protocol.Verdict
		reason  v1alpha1.Reason
	}{
		"as it was":      {func(*world) {}, protocol.Renewed, ""},
		"still in grace": {func(w *world) { end(now.Add(-time.Hour))(w); grace(w, time.Hour+time.Second) }, protocol.Renewed, ""},
		"grace is over":  {func(w *world) { end(now.Add(-time.Hour))(w); grace(w, time.Hour) }, protocol.Wipe, v1alpha1.ReasonExpired},
		"expired":        {end(now), protocol.Wipe, v1alpha1.ReasonExpired},
		"suspended":      {func(w *world) { w.license.Spec.Suspended = new(bool); *w.license.Spec.Suspended = true }, protocol.Wipe, v1alpha1.ReasonSuspended},
		"licence gone":   {func(w *world) { w.license = nil }, protocol.Wipe, v1alpha1.ReasonLicenseMissing},
		"grant gone":     {func(w *world) { w.grants = nil }, protocol.Wipe, v1alpha1.ReasonNoGrant},
		"grant narrowed": {func(w *world) { w.grants[0].Spec.Subjects[0].Name = "other" }, protocol.Wipe, v1alpha1.ReasonSubjectNotGranted},
		"pod relabelled": {func(w *world) {
			w.grants[0].Spec.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}, protocol.Wipe, v1alpha1.ReasonPodNotSelected},
		"namespace moved": {func(w *world) { w.license.Spec.AllowedNamespaces.Names = []string{"other"} }, protocol.Wipe, v1alpha1.ReasonNamespaceNotAllowed},
		"image swapped":   {func(w *world) { w.pod.Spec.Containers[0].Image = "docker.io/library/busybox" }, protocol.Wipe, v1alpha1.ReasonModelNotReferenced},
		"node relabelled": {func(w *world) {
			w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
			w.nodeLabels = map[string]string{"region": "us"}
		}, protocol.Wipe, v1alpha1.ReasonNodeNotAllowed},
		"node as it must be": {func(w *world) {
			w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
			w.nodeLabels = map[string]string{"region": "eu"}
		}, protocol.Renewed, ""},
		"pod being deleted": {func(w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = &metav1.Time{Time: now.Add(time.Second)}, []string{"example.com/wait"}
		}, protocol.Renewed, ""},
		"pod overdue": {func(w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = &metav1.Time{Time: now}, []string{"example.com/wait"}
		}, protocol.Keep, v1alpha1.ReasonLeaseEnding},
		"pod over":                     {func(w *world) { w.pod.Status.Phase = corev1.PodSucceeded }, protocol.Keep, v1alpha1.ReasonLeaseEnding},
		"pod force-deleted":            {func(w *world) { w.pod = nil }, protocol.Keep, v1alpha1.ReasonLeaseEnding},
		"another pod of the name":      {func(w *world) { w.pod.UID = "new" }, protocol.Keep, v1alpha1.ReasonLeaseEnding},
		"no seat yet, or not any more": {func(w *world) { w.seats = []seats.Change{} }, protocol.Keep, v1alpha1.ReasonNoSeat},
		"seat about to end": {func(w *world) {
			w.seats = append(seatFor(podUID, node), seats.Expire{Pod: podUID, Until: now.Add(time.Minute)})
		}, protocol.Keep, v1alpha1.ReasonLeaseEnding},
		"adopted": {func(w *world) {
			w.seats = []seats.Change{seats.Adopt{Pod: podUID, Grant: seats.Grant{Namespace: namespace, Name: "chat"}, Node: node, Since: now}}
		}, protocol.Renewed, ""},
		"cut off":                     {func(w *world) { w.outOfTouch = true }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"just started":                {func(w *world) { w.unsynced = true }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"no namespace":                {func(w *world) { w.failing["CachedNamespace"] = errBroken }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"cut off while it is revoked": {func(w *world) { w.outOfTouch, w.grants = true, nil }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"revoked, and the rights cannot be confirmed":    {func(w *world) { w.grants = nil; w.failing["Rights"] = errBroken }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"revoked, and the pod cannot be confirmed":       {func(w *world) { w.grants = nil; w.failing["Pod"] = errBroken }, protocol.Keep, v1alpha1.ReasonLookupFailed},
		"revoked, and the namespace cannot be confirmed": {func(w *world) { w.grants = nil; w.failing["Namespace"] = errBroken }, protocol.Keep, v1alpha1.ReasonLookupFailed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(w)
			answer := w.renewed(t, w.handler(t), false)
			if answer.Verdict != tc.verdict || answer.Reason != tc.reason {
				t.Errorf("answer %+v, want %s %s", answer, tc.verdict, tc.reason)
			}
			if renewed := answer.LeaseSeconds > 0; renewed != (tc.verdict == protocol.Renewed) {
				t.Errorf("lease %d s", answer.LeaseSeconds)
			}
			if tc.verdict != protocol.Renewed && answer.Message == "" {
				t.Error("nothing is said of it")
			}
			if len(w.audit.appended)+len(w.audit.submitted) != 0 || len(w.steps.list()) != 0 {
				t.Errorf("something was written: %v", w.steps.list())
			}
		})
	}
}

// In the ordinary case a renewal asks the API server nothing, and the driver's token is reviewed every ten minutes.
func TestRenewalsAreAnsweredFromMemory(t *testing.T) {
	w := newWorld(t)
	w.license.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "eu"}
	w.nodeLabels = map[string]string{"region": "eu"}
	var reviews atomic.Int32
	w.reviewing = func(string) { reviews.Add(1) }
	handler := w.handler(t)
	for i := range 60 {
		if answer := w.renewed(t, handler, false); answer.Verdict != protocol.Renewed {
			t.Fatalf("answer %+v", answer)
		}
		if want := int32(1 + i*76/600); reviews.Load() > want+1 || reviews.Load() < want-1 {
			t.Fatalf("%d reviews after %d s", reviews.Load(), i*76)
		}
		w.clock.SetTime(w.clock.Now().Add(76 * time.Second))
	}
	if len(w.lives) != 0 {
		t.Errorf("asked the API server for %v", w.lives)
	}
}

// A driver's token that is not confirmed any more is good for renewals for at most ten minutes, and for keys not at all.
func TestTrustInATokenEnds(t *testing.T) {
	w := newWorld(t)
	handler := w.handler(t)
	w.renewed(t, handler, false)
	delete(w.tokens, driverToken)
	w.clock.SetTime(now.Add(renewalTrust - time.Second))
	w.renewed(t, handler, false)
	if answer := w.caller(handler).call(t.Context(), t); answer.Code != http.StatusUnauthorized {
		t.Errorf("a key: status %d", answer.Code)
	}
	if answer := post(t.Context(), t, handler, protocol.RenewPath, driverToken, driverAddress, protocol.RenewRequest{Volume: w.request.Volume}); answer.Code != http.StatusUnauthorized {
		t.Errorf("after it was refused once: status %d", answer.Code)
	}
	w = newWorld(t)
	handler = w.handler(t)
	w.renewed(t, handler, false)
	delete(w.tokens, driverToken)
	for _, at := range []time.Time{now.Add(-time.Hour), now.Add(renewalTrust)} {
		w.clock.SetTime(at)
		answer := post(t.Context(), t, handler, protocol.RenewPath, driverToken, driverAddress, protocol.RenewRequest{Volume: w.request.Volume})
		if answer.Code != http.StatusUnauthorized {
			t.Errorf("at %s: status %d", at, answer.Code)
		}
	}
}

// A node renews no other node's leases, and a flood of one keeps no other from renewing.
func TestRenewalsOfAnotherNode(t *testing.T) {
	w := newWorld(t)
	w.addDriver()
	other := w.addPod("llm-b", otherNode)
	handler := w.handler(t)
	for i := range renewalRate.Burst + 10 {
		answer := post(t.Context(), t, handler, protocol.RenewPath, otherDriver, otherAddress, protocol.RenewRequest{Volume: w.request.Volume, Early: true})
		want := http.StatusForbidden
		if i >= renewalRate.Burst {
			want = http.StatusTooManyRequests
		}
		if answer.Code != want {
			t.Fatalf("call %d: status %d: %s", i, answer.Code, answer.Body)
		}
	}
	if len(w.lives) != 0 {
		t.Errorf("asked the API server for %v", w.lives)
	}
	w.renewed(t, handler, false)
	w.clock.SetTime(now.Add(time.Second))
	if answer := post(t.Context(), t, handler, protocol.RenewPath, otherDriver, otherAddress, protocol.RenewRequest{Volume: other.Volume}); answer.Code != http.StatusOK {
		t.Errorf("its own: status %d: %s", answer.Code, answer.Body)
	}
}

func TestNobodyRenewsOrReports(t *testing.T) {
	for _, path := range []string{protocol.RenewPath, protocol.ReportPath} {
		for name, bearer := range map[string]string{"nobody": "", "made up": "made-up", "the pod": podToken} {
			w := newWorld(t)
			answer := post(t.Context(), t, w.handler(t), path, bearer, otherAddress, protocol.ReportRequest{Volume: w.request.Volume, Event: protocol.Unpublished})
			if answer.Code != http.StatusUnauthorized || len(w.steps.list()) != 0 {
				t.Errorf("%s, %s: status %d, did %v", path, name, answer.Code, w.steps.list())
			}
		}
	}
}

// Later drivers may say more, in renewals and reports.
func TestFieldsOfLaterVersions(t *testing.T) {
	w := newWorld(t)
	w.pod.Status.Phase = corev1.PodSucceeded
	handler := w.handler(t)
	body := map[string]any{"volume": w.request.Volume, "event": "Unpublished", "later": true}
	for _, path := range []string{protocol.RenewPath, protocol.ReportPath} {
		if answer := post(t.Context(), t, handler, path, driverToken, driverAddress, body); answer.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, answer.Code, answer.Body)
		}
	}
	for name, body := range map[string]any{
		"another event": map[string]any{"volume": w.request.Volume, "event": "Painted"},
		"long reason":   map[string]any{"volume": w.request.Volume, "event": "Wiped", "reason": strings.Repeat("x", 100)},
		"prose":         map[string]any{"volume": w.request.Volume, "event": "Wiped", "reason": "line\nline"},
	} {
		if answer := post(t.Context(), t, handler, protocol.ReportPath, driverToken, driverAddress, body); answer.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", name, answer.Code, answer.Body)
		}
	}
}

// TestSuspectedTime: by a time that is not confirmed no key leaves, and none is wiped.
func TestSuspectedTime(t *testing.T) {
	for later, want := range map[time.Duration]string{time.Minute: "", 2 * time.Hour: string(v1alpha1.ReasonExpired)} {
		w := newWorld(t)
		w.license.Spec.Terms.NotAfter = &metav1.Time{Time: now.Add(time.Hour)}
		w.later = func() (time.Time, bool) { return now.Add(later), true }
		if answer := w.call(t); (answer.Code == http.StatusOK) != (want == "") || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%v: status %d: %s", later, answer.Code, answer.Body)
		}
		w = newWorld(t)
		w.license.Spec.Terms.NotAfter = &metav1.Time{Time: now.Add(time.Hour)}
		w.later = func() (time.Time, bool) { return now.Add(later), true }
		if answer := w.renewed(t, w.handler(t), false); answer.Verdict != protocol.Renewed {
			t.Errorf("%v: renewal %+v", later, answer)
		}
	}
}
