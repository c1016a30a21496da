package controllers

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// auditHarness is a reconciler over a log in memory, with what it asked for.
type auditHarness struct {
	*AuditLogReconciler
	t            *testing.T
	clock        *clocktesting.FakeClock
	reads, lists atomic.Int64
	writes       atomic.Int64
}

func newAuditHarness(t *testing.T) *auditHarness {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	h := &auditHarness{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))}
	base := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ModelAuditLog{}).Build()
	live := interceptor.NewClient(base, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*v1alpha1.ModelAuditRecord); ok {
				h.reads.Add(1)
			}
			return c.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*v1alpha1.ModelAuditRecordList); ok {
				h.lists.Add(1)
			}
			return c.List(ctx, list, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			h.writes.Add(1)
			return c.SubResource(sub).Update(ctx, obj, opts...)
		},
	})
	h.AuditLogReconciler = &AuditLogReconciler{Live: live, Clock: h.clock}
	h.setDefaults()
	return h
}

func (h *auditHarness) put(first int64, n int) {
	h.t.Helper()
	leaf := `{"id":"x","time":"2026-11-21T12:00:00Z","type":"Admitted","v":1}`
	record := &v1alpha1.ModelAuditRecord{
		ObjectMeta: metav1.ObjectMeta{Name: audit.RecordName(first), CreationTimestamp: metav1.NewTime(h.clock.Now())},
		Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: first, Summary: "x", Entries: strings.Split(strings.Repeat(leaf+"\n", n-1)+leaf, "\n")},
	}
	if err := h.Live.Create(h.t.Context(), record); err != nil {
		h.t.Fatal(err)
	}
}

func (h *auditHarness) remove(first int64) {
	h.t.Helper()
	if err := h.Live.Delete(h.t.Context(), &v1alpha1.ModelAuditRecord{ObjectMeta: metav1.ObjectMeta{Name: audit.RecordName(first)}}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *auditHarness) reconcile() (v1alpha1.ModelAuditLogStatus, ctrl.Result) {
	h.t.Helper()
	request := ctrl.Request{NamespacedName: client.ObjectKey{Name: v1alpha1.AuditLogName}}
	result, err := h.Reconcile(h.t.Context(), request)
	if err != nil {
		h.t.Fatal(err)
	}
	head := &v1alpha1.ModelAuditLog{}
	if err := h.Live.Get(h.t.Context(), request.NamespacedName, head); err != nil {
		h.t.Fatal(err)
	}
	return head.Status, result
}

func (h *auditHarness) expect(size, records, last int64, reason v1alpha1.Reason) string {
	h.t.Helper()
	status, _ := h.reconcile()
	if got := ptr.Deref(status.Size, -1); got != size {
		h.t.Errorf("size %d, want %d", got, size)
	}
	if got := ptr.Deref(status.Records, -1); got != records {
		h.t.Errorf("records %d, want %d", got, records)
	}
	name := ""
	if last >= 0 {
		name = audit.RecordName(last)
	}
	if status.LastRecord != name {
		h.t.Errorf("last record %q, want %q", status.LastRecord, name)
	}
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != string(reason) || (ready.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonLogComplete) {
		h.t.Fatalf("ready %+v, want %s", ready, reason)
	}
	for kind, want := range map[string]bool{
		v1alpha1.ConditionStalled:     reason == v1alpha1.ReasonLogGap,
		v1alpha1.ConditionReconciling: reason == v1alpha1.ReasonProgressing,
	} {
		if got := meta.IsStatusConditionTrue(status.Conditions, kind); got != want {
			h.t.Errorf("%s %v, want %v", kind, got, want)
		}
	}
	return ready.Message
}

func TestAuditLogHeadFollows(t *testing.T) {
	h := newAuditHarness(t)
	h.expect(0, 0, -1, v1alpha1.ReasonLogComplete)
	h.put(0, 3)
	h.expect(3, 1, 0, v1alpha1.ReasonLogComplete)
	h.put(3, 256)
	h.put(259, 1)
	h.expect(260, 3, 259, v1alpha1.ReasonLogComplete)
}

func TestAuditLogHeadCostsWhatIsNew(t *testing.T) {
	h := newAuditHarness(t)
	for n := range int64(1000) {
		h.put(n, 1)
	}
	h.expect(1000, 1000, 999, v1alpha1.ReasonLogComplete)
	h.reads.Store(0)
	h.lists.Store(0)
	h.put(1000, 1)
	h.expect(1001, 1001, 1000, v1alpha1.ReasonLogComplete)
	if reads, lists := h.reads.Load(), h.lists.Load(); reads > 2 || lists > 0 {
		t.Errorf("%d records and %d lists were read for one new record", reads, lists)
	}
	h.writes.Store(0)
	h.expect(1001, 1001, 1000, v1alpha1.ReasonLogComplete)
	if h.writes.Load() != 0 {
		t.Error("the status was written though nothing had changed")
	}
}

func TestAuditLogBacklogIsReadInParts(t *testing.T) {
	h := newAuditHarness(t)
	h.put(0, 1)
	h.expect(1, 1, 0, v1alpha1.ReasonLogComplete)
	for n := range int64(auditWalk + 5) {
		h.put(1+n, 1)
	}
	h.expect(auditWalk+1, auditWalk+1, auditWalk, v1alpha1.ReasonProgressing)
	h.expect(auditWalk+6, auditWalk+6, auditWalk+5, v1alpha1.ReasonLogComplete)
}

// TestAuditLogGaps removes and restores records, seen by the watch or not.
func TestAuditLogGaps(t *testing.T) {
	for name, test := range map[string]struct {
		tamper        func(*auditHarness)
		size, records int64
		last          int64
		says          string
	}{
		"first removed":  {func(h *auditHarness) { h.remove(0) }, 40, 3, 30, "entries 0 to 9 are missing"},
		"middle removed": {func(h *auditHarness) { h.remove(10) }, 40, 3, 30, "entries 10 to 19 are missing"},
		"last removed":   {func(h *auditHarness) { h.remove(30) }, 40, 3, 20, "entries 30 to 39 are missing"},
		"two removed":    {func(h *auditHarness) { h.remove(0); h.remove(20) }, 40, 2, 30, "entries 0 to 9 are missing; entries 20 to 29 are missing"},
		"all removed": {func(h *auditHarness) { h.remove(0); h.remove(10); h.remove(20); h.remove(30) }, 40, 0, -1,
			"entries 0 to 39 are missing"},
		"shorter one in its place": {func(h *auditHarness) { h.remove(10); h.put(10, 9) }, 40, 4, 30, "entry 19 is missing"},
		"longer one in its place":  {func(h *auditHarness) { h.remove(10); h.put(10, 12) }, 40, 4, 30, "entries 20 to 21 are there twice"},
		"one slipped in":           {func(h *auditHarness) { h.put(5, 1) }, 40, 5, 30, "entry 5 is there twice"},
	} {
		notice := map[string]func(*auditHarness){
			"seen by the watch": func(h *auditHarness) { h.records.suspicious.Store(true) },
		}
		if test.records != 4 { // one for another in an unwatched moment leaves their number as it is
			notice["counted"] = func(h *auditHarness) { h.records.begun.Store(true) }
		}
		for how, notice := range notice {
			t.Run(name+", "+how, func(t *testing.T) {
				h := newAuditHarness(t)
				for n := range int64(4) {
					h.put(10*n, 10)
				}
				h.expect(40, 4, 30, v1alpha1.ReasonLogComplete)
				h.clock.Step(auditVerifyPause)
				test.tamper(h)
				notice(h)
				if got := h.expect(test.size, test.records, test.last, v1alpha1.ReasonLogGap); !strings.Contains(got, test.says) {
					t.Errorf("message %q, want %q", got, test.says)
				}
				h.put(40, 1) // the log goes on
				h.clock.Step(auditRecount)
				if got := h.expect(41, test.records+1, 40, v1alpha1.ReasonLogGap); !strings.Contains(got, test.says) {
					t.Errorf("message %q, want %q", got, test.says)
				}
			})
		}
	}
}

func TestAuditLogGapBeforeTheHead(t *testing.T) {
	h := newAuditHarness(t)
	h.put(0, 10)
	h.expect(10, 1, 0, v1alpha1.ReasonLogComplete)
	h.clock.Step(auditVerifyPause)
	h.put(20, 5)
	h.records.newest.Store(20)
	if got := h.expect(25, 2, 20, v1alpha1.ReasonLogGap); !strings.Contains(got, "entries 10 to 19 are missing") {
		t.Errorf("message %q", got)
	}
}

func TestAuditLogRestored(t *testing.T) {
	h := newAuditHarness(t)
	h.put(0, 10)
	h.put(10, 10)
	h.expect(20, 2, 10, v1alpha1.ReasonLogComplete)
	h.clock.Step(auditVerifyPause)
	h.remove(0)
	h.records.suspicious.Store(true)
	h.expect(20, 1, 10, v1alpha1.ReasonLogGap)
	h.clock.Step(auditVerifyPause)
	h.put(0, 10)
	h.records.suspicious.Store(true)
	h.expect(20, 2, 10, v1alpha1.ReasonLogComplete)
}

// TestAuditLogVerifiesSeldom: who removes records over and over does not make the operator read the log over and over.
func TestAuditLogVerifiesSeldom(t *testing.T) {
	h := newAuditHarness(t)
	for n := range int64(10) {
		h.put(n, 1)
	}
	h.expect(10, 10, 9, v1alpha1.ReasonLogComplete)
	h.clock.Step(auditVerifyPause)
	h.lists.Store(0)
	for n := range int64(5) {
		h.remove(n)
		h.records.suspicious.Store(true)
		h.reconcile()
	}
	if got := h.lists.Load(); got != 1 {
		t.Errorf("the log was read %d times", got)
	}
	h.clock.Step(auditVerifyPause)
	h.expect(10, 5, 9, v1alpha1.ReasonLogGap)
}

func TestAuditLogHeadLost(t *testing.T) {
	h := newAuditHarness(t)
	h.put(0, 10)
	h.put(10, 10)
	h.expect(20, 2, 10, v1alpha1.ReasonLogComplete)
	if err := h.Live.Delete(t.Context(), &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AuditLogName}}); err != nil {
		t.Fatal(err)
	}
	h.expect(20, 2, 10, v1alpha1.ReasonLogComplete)
}

func TestAuditLogOtherNames(t *testing.T) {
	h := newAuditHarness(t)
	if _, err := h.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "other"}}); err != nil {
		t.Error(err)
	}
	if err := h.Live.Get(t.Context(), client.ObjectKey{Name: "other"}, &v1alpha1.ModelAuditLog{}); err == nil {
		t.Error("a second head was created")
	}
}

func TestRecordWatch(t *testing.T) {
	event := func(kind watch.EventType, index int64) watch.Event {
		return watch.Event{Type: kind, Object: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: audit.RecordName(index)}}}
	}
	for name, test := range map[string]struct {
		events     []watch.Event
		newest     int64
		suspicious bool
	}{
		"nothing":      {nil, -1, false},
		"growth":       {[]watch.Event{event(watch.Added, 3), event(watch.Added, 10)}, 10, false},
		"removal":      {[]watch.Event{event(watch.Added, 3), event(watch.Deleted, 3)}, 3, true},
		"out of order": {[]watch.Event{event(watch.Added, 10), event(watch.Added, 3)}, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRecordWatch(nil, nil)
			for _, e := range test.events {
				if err := w.observe(e); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]any{test.newest, test.suspicious}, []any{w.newest.Load(), w.suspicious.Load()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
