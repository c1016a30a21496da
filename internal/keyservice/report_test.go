package keyservice

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// ending is the world in which the world's pod has its key and is about to end.
func ending(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.pod.DeletionTimestamp, w.pod.Finalizers = &metav1.Time{Time: now.Add(30 * time.Second)}, []string{"example.com/wait"}
	w.seats = append(seatFor(podUID, node), seats.Release{Pod: podUID, Node: node})
	return w
}

func (w *world) reported(t *testing.T, handler http.Handler, bearer string, request protocol.ReportRequest) *httptest.ResponseRecorder {
	t.Helper()
	return post(t.Context(), t, handler, protocol.ReportPath, bearer, driverAddress, request)
}

func (w *world) unpublished() protocol.ReportRequest {
	return protocol.ReportRequest{Volume: w.request.Volume, Event: protocol.Unpublished}
}

func reasonOf(t *testing.T, answer *httptest.ResponseRecorder) v1alpha1.Reason {
	t.Helper()
	if answer.Code == http.StatusOK {
		return ""
	}
	var refusal protocol.Error
	if err := json.Unmarshal(answer.Body.Bytes(), &refusal); err != nil {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	return refusal.Reason
}

// A seat ends with the report, what was used is in the log before that, and a report that is repeated changes nothing.
func TestUnpublishedEndsTheSeat(t *testing.T) {
	w := ending(t)
	handler := w.handler(t)
	request := w.unpublished()
	request.AgeMilliseconds = 60_000
	if reason := reasonOf(t, w.reported(t, handler, driverToken, request)); reason != "" {
		t.Fatalf("refused: %s", reason)
	}
	if _, ok := w.book.holder(podUID); ok {
		t.Error("the seat has not ended")
	}
	if got := w.steps.list(); !slices.Equal(got, []string{"durable", "seats.End"}) {
		t.Errorf("order %v", got)
	}
	e := w.audit.appended[0]
	if e.Type != audit.SeatEnded || e.Reason != v1alpha1.ReasonUnpublished || e.Seconds != 3600-60 || e.Pod.Name != "llm-0" || e.Pod.UID != podUID ||
		e.Node != node || e.License.Name != licenseName || e.Grant.Name != "chat" || e.Actor != "system:serviceaccount:modelrights-node:modelrights-node" {
		t.Errorf("entry %+v", e)
	}
	if reason := reasonOf(t, w.reported(t, handler, driverToken, request)); reason != v1alpha1.ReasonNotHolder {
		t.Errorf("repeated: %s", reason)
	}
	if len(w.audit.appended) != 1 {
		t.Errorf("%d entries", len(w.audit.appended))
	}
	w.noSecrets(t)
}

func TestUnpublished(t *testing.T) {
	tests := map[string]struct {
		change func(*testing.T, *world)
		bearer string
		reason v1alpha1.Reason
		status int
	}{
		"the pod is being deleted": {nil, driverToken, "", 200},
		"the pod has ended": {func(_ *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers, w.pod.Status.Phase = nil, nil, corev1.PodFailed
		}, driverToken, "", 200},
		"the pod is gone":             {func(_ *testing.T, w *world) { w.pod = nil }, driverToken, "", 200},
		"another pod has its name":    {func(_ *testing.T, w *world) { w.pod.UID = "new" }, driverToken, "", 200},
		"the pod is gone, not cached": {func(t *testing.T, w *world) { w.cachedLike(t); w.stale.pod = nil }, driverToken, "", 200},
		"the pod goes on": {func(_ *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
		}, driverToken, v1alpha1.ReasonPodRuns, 503},
		"the pod goes on, which the cache does not know": {func(t *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
			w.cachedLike(t)
			w.stale.pod = nil
		}, driverToken, v1alpha1.ReasonPodRuns, 503},
		"the pod has ended, which the cache does not know": {func(t *testing.T, w *world) {
			w.cachedLike(t)
			w.stale.pod.DeletionTimestamp, w.stale.pod.Finalizers = nil, nil
		}, driverToken, "", 200},
		"the pod cannot be read": {func(_ *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
			w.failing["Pod"] = errBroken
		}, driverToken, v1alpha1.ReasonLookupFailed, 503},
		"from another node":          {nil, otherDriver, v1alpha1.ReasonNotHolder, 403},
		"of a pod without a seat":    {func(_ *testing.T, w *world) { w.seats = []seats.Change{} }, driverToken, v1alpha1.ReasonNotHolder, 403},
		"of a pod on no node":        {func(_ *testing.T, w *world) { w.seats = seatFor(podUID, "") }, driverToken, v1alpha1.ReasonNotHolder, 403},
		"of a licence without seats": {func(_ *testing.T, w *world) { w.request.Volume.License = otherLicense }, driverToken, v1alpha1.ReasonNotHolder, 403},
		"of a pod that runs, by a name that no pod has": {func(_ *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
			w.request.Volume.PodName = "no-such-pod"
		}, driverToken, v1alpha1.ReasonPodRuns, 503},
		"of a pod that runs, by the name of one that ended": {func(_ *testing.T, w *world) {
			w.addPod("ended", node)
			w.more[0].Status.Phase = corev1.PodSucceeded
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
			w.request.Volume.PodName = "ended"
		}, driverToken, v1alpha1.ReasonPodRuns, 503},
		"of a pod that runs, by a namespace that it is not in": {func(_ *testing.T, w *world) {
			w.pod.DeletionTimestamp, w.pod.Finalizers = nil, nil
			w.request.Volume.PodNamespace = "elsewhere"
		}, driverToken, v1alpha1.ReasonNotHolder, 403},
		"of a pod that ends, by a namespace that it is not in": {func(_ *testing.T, w *world) {
			w.request.Volume.PodNamespace = "elsewhere"
		}, driverToken, v1alpha1.ReasonNotHolder, 403},
		"of a pod that is not named":   {func(_ *testing.T, w *world) { w.request.Volume.PodUID = "" }, driverToken, v1alpha1.ReasonNotHolder, 403},
		"the log takes no entry":       {func(_ *testing.T, w *world) { w.audit.err = errBroken }, driverToken, v1alpha1.ReasonAuditUnavailable, 503},
		"the ledger cannot be written": {func(_ *testing.T, w *world) { w.bookErr = errBroken }, driverToken, v1alpha1.ReasonLookupFailed, 503},
		"the ledger cannot be read": {func(_ *testing.T, w *world) {
			w.seats, w.failing["ModelSeats"] = []seats.Change{}, errBroken
		}, driverToken, v1alpha1.ReasonLookupFailed, 503},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := ending(t)
			w.addDriver()
			if tc.change != nil {
				tc.change(t, w)
			}
			handler := w.handler(t)
			_, before := w.book.holder(podUID)
			answer := w.reported(t, handler, tc.bearer, w.unpublished())
			if reason := reasonOf(t, answer); reason != tc.reason || answer.Code != tc.status {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			if _, after := w.book.holder(podUID); after != (before && tc.reason != "") {
				t.Errorf("holds a seat: %t before, %t after", before, after)
			}
			if logged := len(w.audit.appended) > 0; logged && tc.reason != "" && tc.reason != v1alpha1.ReasonLookupFailed {
				t.Errorf("logged %+v", w.audit.appended)
			}
		})
	}
}

// A report of a pod that had the name before ends no seat of the pod that has it now, however often it is sent.
func TestReplayedReport(t *testing.T) {
	w := ending(t)
	replay := w.unpublished()
	handler := w.handler(t)
	if reason := reasonOf(t, w.reported(t, handler, driverToken, replay)); reason != "" {
		t.Fatalf("refused: %s", reason)
	}
	next := w.addPod("llm-0", node)
	next.Volume.PodUID = "uid-next"
	if _, err := w.book.Do(t.Context(), licenseName, seatFor("uid-next", node)...); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if reason := reasonOf(t, w.reported(t, handler, driverToken, replay)); reason != v1alpha1.ReasonNotHolder {
			t.Errorf("replayed: %q", reason)
		}
	}
	if _, ok := w.book.holder("uid-next"); !ok {
		t.Error("the new pod lost its seat")
	}
}

// This replica's cache does not have the seat, or its node, yet: the API server is asked before a report is turned away.
func TestReportBeforeTheCacheKnows(t *testing.T) {
	for name, shown := range map[string][]seats.Change{"no seat": nil, "no node": seatFor(podUID, "")} {
		w := ending(t)
		handler := w.handler(t)
		w.book.shown = w.newBook(t).ledger.Clone()
		w.book.shown.Apply(seats.End{Pod: podUID, At: now})
		w.book.shown.Apply(shown...)
		if reason := reasonOf(t, w.reported(t, handler, driverToken, w.unpublished())); reason != "" || w.lives["ModelSeats"] != 1 {
			t.Errorf("%s: %q, read %v", name, reason, w.lives)
		}
		if _, ok := w.book.holder(podUID); ok {
			t.Errorf("%s: the seat has not ended", name)
		}
	}
}

// A node that reports without end has its rate, and what it makes the API server read has another.
func TestReportsOfOneNodeAreBounded(t *testing.T) {
	w := ending(t)
	w.addDriver()
	handler := w.handler(t)
	for i := range nodeRate.Burst + 10 {
		answer := w.reported(t, handler, otherDriver, w.unpublished())
		want := v1alpha1.ReasonNotHolder
		if i >= liveRate.Burst {
			want = v1alpha1.ReasonTooManyRequests
		}
		if reason := reasonOf(t, answer); reason != want {
			t.Fatalf("report %d: %s, want %s", i, reason, want)
		}
	}
	if w.lives["ModelSeats"] != liveRate.Burst {
		t.Errorf("read %v", w.lives)
	}
	if reason := reasonOf(t, w.reported(t, handler, driverToken, w.unpublished())); reason != "" {
		t.Errorf("another node: %s", reason)
	}
}

// A tenant who makes kubelet come early again and again, by writing on a pod, does not hold up the seats of others on the node.
func TestEarlyRenewalsHoldUpNoReport(t *testing.T) {
	w := ending(t)
	w.pod = nil
	r := w.releaser(t)
	for r.rates.live().Take(r.Clock.Now(), node) == 0 {
	}
	if refusal := r.report(t.Context(), &nodeReport{driver: holder{node: node}, request: w.unpublished()}); refusal != nil {
		t.Errorf("the end of a pod is refused: %v", refusal)
	}
}

func TestWiped(t *testing.T) {
	w := newWorld(t)
	w.seats = append(seatFor(podUID, node), seats.Release{Pod: podUID, Node: node})
	w.pod.Annotations = map[string]string{v1alpha1.AnnotationAttention: now.Add(-1500 * time.Millisecond).Format(time.RFC3339Nano)}
	w.pod.Status.Conditions = revoked()
	w.pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-2 * time.Second))
	registry := prometheus.NewRegistry()
	s, err := NewServer(w.releaser(t), ServerOptions{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	request := protocol.ReportRequest{Volume: w.request.Volume, Event: protocol.Wiped, Reason: v1alpha1.ReasonNoGrant, AgeMilliseconds: 500}
	for range 3 {
		if reason := reasonOf(t, w.reported(t, s.http.Handler, driverToken, request)); reason != "" {
			t.Fatalf("refused: %s", reason)
		}
	}
	if h, ok := w.book.holder(podUID); !ok || !h.Wiped {
		t.Errorf("holder %+v, %t", h, ok)
	}
	if len(w.audit.appended) != 1 {
		t.Fatalf("%d entries", len(w.audit.appended))
	}
	e := w.audit.appended[0]
	if e.Type != audit.KeyWiped || e.Reason != v1alpha1.ReasonNoGrant || e.Pod.Name != "llm-0" || e.Node != node || e.License.Name != licenseName {
		t.Errorf("entry %+v", e)
	}
	if event := <-w.events.Events; !strings.HasPrefix(event, "Warning KeyWiped ") {
		t.Errorf("event %q", event)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	measured := false
	for _, family := range families {
		if family.GetName() == "modelrights_keyservice_wipe_report_seconds" {
			measured = true
			if h := family.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 1 {
				t.Errorf("%d revocations in %v s, want 1 in 1 s", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
	if !measured {
		t.Error("revocations are not measured")
	}
	w.noSecrets(t)
}

func TestRevocationsAreMeasured(t *testing.T) {
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339Nano) }
	tests := map[string]struct {
		attention string
		reason    v1alpha1.Reason
		condition []corev1.PodCondition
		took      time.Duration
		none      bool
	}{
		"called once":            {ago(1200 * time.Millisecond), v1alpha1.ReasonNoGrant, revoked(), 1200 * time.Millisecond, false},
		"called again":           {ago(300 * time.Millisecond), v1alpha1.ReasonNoGrant, revoked(), 2 * time.Second, false},
		"called for another end": {ago(time.Hour), v1alpha1.ReasonNoGrant, revoked(), 2 * time.Second, false},
		"not called":             {"", v1alpha1.ReasonNoGrant, revoked(), 2 * time.Second, false},
		"a tenant's own word":    {"yesterday", v1alpha1.ReasonNoGrant, revoked(), 2 * time.Second, false},
		"the lease was over":     {ago(time.Second), v1alpha1.ReasonLeaseEnded, revoked(), 0, true},
		"not said to be revoked": {ago(time.Second), v1alpha1.ReasonNoGrant, nil, 0, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pod.Annotations = map[string]string{v1alpha1.AnnotationAttention: tc.attention}
			w.pod.Status.Conditions = tc.condition
			for i := range w.pod.Status.Conditions {
				w.pod.Status.Conditions[i].LastTransitionTime = metav1.NewTime(now.Add(-2 * time.Second))
			}
			c := &nodeReport{pod: w.pod, request: protocol.ReportRequest{Event: protocol.Wiped, Reason: tc.reason}}
			if took, ok := w.releaser(t).revokedAgo(c); ok == tc.none || ok && took != tc.took {
				t.Errorf("took %s, %t", took, ok)
			}
		})
	}
}

// Nothing about times that a driver makes up.
func TestAgeIsBounded(t *testing.T) {
	for ms, want := range map[int64]time.Duration{-5: 0, 0: 0, 1500: 1500 * time.Millisecond, 1 << 62: 48 * time.Hour} {
		c := &nodeReport{request: protocol.ReportRequest{AgeMilliseconds: ms}}
		if got := c.age(); got != want {
			t.Errorf("%d ms: %s, want %s", ms, got, want)
		}
	}
}
