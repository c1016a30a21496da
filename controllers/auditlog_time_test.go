package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/trustedtime"
)

// entriesOf is an AuditLog that writes each entry as a record of the harness's log, by its clock.
type entriesOf struct {
	h       *auditHarness
	next    int64
	refuses bool
	written []audit.Entry
}

func (e *entriesOf) Append(ctx context.Context, entry audit.Entry) (int64, error) {
	if e.refuses {
		return -1, errors.New("no")
	}
	e.written = append(e.written, entry)
	leaf, err := entry.Canonical()
	if err != nil {
		return -1, err
	}
	record := &v1alpha1.ModelAuditRecord{
		ObjectMeta: metav1.ObjectMeta{Name: audit.RecordName(e.next), CreationTimestamp: metav1.NewTime(e.h.clock.Now())},
		Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: e.next, Summary: "x", Entries: []string{string(leaf)}},
	}
	return e.next, e.h.Live.Create(ctx, record)
}

func (h *auditHarness) expectMark(want time.Time) {
	h.t.Helper()
	status, _ := h.reconcile()
	if status.TimeMark == nil || !status.TimeMark.Time.Equal(want) {
		h.t.Errorf("the mark is %v, want %v", status.TimeMark, want)
	}
}

func (h *auditHarness) annotate(why string) {
	h.t.Helper()
	head := &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"annotations": {"`+v1alpha1.AnnotationResetTimeMark+`": "`+why+`"}}}`))
	if err := h.Live.Patch(h.t.Context(), head, patch); err != nil {
		h.t.Fatal(err)
	}
}

func (h *auditHarness) asked() bool {
	h.t.Helper()
	head := &v1alpha1.ModelAuditLog{}
	if err := h.Live.Get(h.t.Context(), client.ObjectKey{Name: v1alpha1.AuditLogName}, head); err != nil {
		h.t.Fatal(err)
	}
	_, asked := head.Annotations[v1alpha1.AnnotationResetTimeMark]
	return asked
}

func TestTimeMarkRises(t *testing.T) {
	h := newAuditHarness(t)
	noon := h.clock.Now()
	if status, _ := h.reconcile(); status.TimeMark != nil {
		t.Errorf("the mark is %v before there is a record", status.TimeMark)
	}
	h.put(0, 1)
	h.expectMark(noon)
	h.clock.Step(time.Hour)
	h.put(1, 1)
	h.expectMark(noon.Add(time.Hour))
}

// TestTimeMarkWithoutRecords: time that passes by the operator's clock alone is no mark.
func TestTimeMarkWithoutRecords(t *testing.T) {
	h := newAuditHarness(t)
	noon := h.clock.Now()
	h.put(0, 1)
	h.expectMark(noon)
	h.clock.Step(1000 * time.Hour)
	h.expectMark(noon)
}

// TestTimeMarkOutlives set-back clocks, new operators, passes through the whole log, and the head.
func TestTimeMarkOutlives(t *testing.T) {
	for name, then := range map[string]func(*auditHarness){
		"a clock that is set back": func(*auditHarness) {},
		"a new operator": func(h *auditHarness) {
			h.records = newRecordWatch(h.Live, h.clock)
			h.recountDue, h.verifyDue = time.Time{}, time.Time{}
		},
		"a removed record": func(h *auditHarness) { h.remove(1); h.records.suspicious.Store(true) },
		"a lost head": func(h *auditHarness) {
			if err := h.Live.Delete(h.t.Context(), &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}); err != nil {
				h.t.Fatal(err)
			}
		},
		"a head without a mark, of an earlier version": func(h *auditHarness) {
			head := &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}
			if err := h.Live.Status().Patch(h.t.Context(), head, client.RawPatch("application/merge-patch+json", []byte(`{"status": {"timeMark": null}}`))); err != nil {
				h.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newAuditHarness(t)
			noon := h.clock.Now()
			h.put(0, 1)
			h.clock.Step(time.Hour)
			h.put(1, 1)
			h.expectMark(noon.Add(time.Hour))
			h.clock.SetTime(noon.Add(-1000 * time.Hour))
			then(h)
			h.put(2, 1)
			h.expectMark(noon.Add(time.Hour))
			h.put(3, 1)
			h.expectMark(noon.Add(time.Hour))
		})
	}
}

func TestTimeMarkIsReset(t *testing.T) {
	h := newAuditHarness(t)
	log := &entriesOf{h: h, next: 2}
	h.Audit = log
	noon := h.clock.Now()
	h.put(0, 1)
	h.clock.Step(1000 * time.Hour) // the API server's clock runs ahead
	h.put(1, 1)
	ahead := noon.Add(1000 * time.Hour)
	h.expectMark(ahead)

	h.clock.SetTime(noon.Add(time.Hour))
	log.refuses = true
	h.annotate("NTP was broken")
	if _, err := h.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: v1alpha1.AuditLogName}}); err == nil {
		t.Error("the mark was reset though the entry was not written")
	}
	if !h.asked() {
		t.Error("the annotation was removed though the entry was not written")
	}
	log.refuses = false
	h.expectMark(noon.Add(time.Hour))
	if h.asked() {
		t.Error("the annotation is there yet")
	}
	if len(log.written) != 1 || log.written[0].Type != audit.TimeMarkReset ||
		!strings.Contains(log.written[0].Message, "NTP was broken") || !strings.Contains(log.written[0].Message, ahead.Format(time.RFC3339)) {
		t.Errorf("entries %+v", log.written)
	}

	h.clock.Step(time.Hour)
	h.put(3, 1)
	h.expectMark(noon.Add(2 * time.Hour))
	if err := h.Live.Delete(t.Context(), &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}); err != nil {
		t.Fatal(err)
	}
	h.expectMark(noon.Add(2 * time.Hour))
	h.remove(2) // the reset: who takes it away does not bring the wrong mark back
	h.records.suspicious.Store(true)
	h.verifyDue = time.Time{}
	h.expectMark(noon.Add(2 * time.Hour))
	if len(log.written) != 1 {
		t.Errorf("reset %d times", len(log.written))
	}
}

// skewOf is what is known of the API server's clock.
type skewOf struct {
	skew   trustedtime.Skew
	known  bool
	latest time.Time // that is credible; zero: all is
}

func (s *skewOf) Credible(at time.Time) bool { return s.latest.IsZero() || !at.After(s.latest) }

func (s *skewOf) Skew() (trustedtime.Skew, bool) { return s.skew, s.known }

func TestClockSkewed(t *testing.T) {
	h := newAuditHarness(t)
	skew, recorder := &skewOf{}, events.NewFakeRecorder(10)
	h.Time, h.Events = skew, recorder
	expect := func(reason v1alpha1.Reason, says string, told int) {
		t.Helper()
		status, _ := h.reconcile()
		c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionClockSkewed)
		switch {
		case reason == "":
			if c != nil {
				t.Errorf("condition %+v before anything is known", c)
			}
		case c == nil || c.Reason != string(reason) || (c.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonClockSkewed) || !strings.Contains(c.Message, says):
			t.Errorf("condition %+v, want %s, %q", c, reason, says)
		}
		if got := len(recorder.Events); got != told {
			t.Errorf("%d Events, want %d", got, told)
		}
	}
	expect("", "", 0)
	skew.known = true
	expect(v1alpha1.ReasonClockAgrees, "agrees", 0)
	skew.skew.Machine = time.Hour + 3*time.Second
	expect(v1alpha1.ReasonClockSkewed, "1h0m0s ahead of the API server's", 1)
	h.writes.Store(0)
	skew.skew.Machine = time.Hour + 8*time.Second
	expect(v1alpha1.ReasonClockSkewed, "ahead", 1)
	if h.writes.Load() != 0 {
		t.Error("the status is written for seconds")
	}
	skew.skew.Machine = -time.Hour
	expect(v1alpha1.ReasonClockSkewed, "behind the API server's", 1)
	skew.skew.Machine, skew.skew.Behind = 0, time.Hour
	expect(v1alpha1.ReasonClockSkewed, "kubectl annotate mlog cluster modelrights.dev/reset-time-mark=WHY", 1)
	skew.skew.Behind = 0
	expect(v1alpha1.ReasonClockAgrees, "agrees", 1)
	skew.skew.Machine = time.Hour
	expect(v1alpha1.ReasonClockSkewed, "ahead", 2)
	skew.skew.Machine, skew.skew.Held = 0, time.Hour
	expect(v1alpha1.ReasonClockSkewed, "leapt ahead by 1h0m0s", 2)
	if _, result := h.reconcile(); result.RequeueAfter > time.Minute {
		t.Errorf("looks again after %v", result.RequeueAfter)
	}
}

// TestTimeMarkIsCredible: a record whose creation time cannot be right makes no mark, neither when it is new nor when the
// log is read again, nor by a reset; one that is right does.
func TestTimeMarkIsCredible(t *testing.T) {
	h := newAuditHarness(t)
	noon := h.clock.Now()
	known := &skewOf{latest: noon.Add(time.Hour)}
	h.Time = known
	h.put(0, 1)
	h.expectMark(noon)
	ahead := noon.Add(1000 * time.Hour)
	h.clock.SetTime(ahead)
	h.put(1, 1)
	h.expectMark(noon)
	head := func() *v1alpha1.ModelAuditLog {
		return &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}
	}
	if err := h.Live.Status().Patch(t.Context(), head(), client.RawPatch("application/merge-patch+json", []byte(`{"status": {"timeMark": null}}`))); err != nil {
		t.Fatal(err)
	}
	if status, _ := h.reconcile(); status.TimeMark != nil {
		t.Errorf("the mark is %v, by the last record's time", status.TimeMark)
	}
	if err := h.Live.Delete(t.Context(), head()); err != nil {
		t.Fatal(err)
	}
	h.expectMark(noon)

	h.Audit = &entriesOf{h: h, next: 2}
	h.annotate("an API server is wrong")
	h.expectMark(noon)

	h.clock.SetTime(noon.Add(30 * time.Minute))
	h.put(3, 1)
	h.expectMark(noon.Add(30 * time.Minute))
	known.latest = ahead
	h.clock.SetTime(ahead)
	h.put(4, 1)
	h.expectMark(ahead)
}
