package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

const (
	// auditDebounce is how long changes of the log gather before the head is written: at most one status write in it.
	auditDebounce = 2 * time.Second
	// auditRecount is how often the number of records is compared with that in the head.
	auditRecount = 10 * time.Minute
	// auditWalk is how many new records are read before the head is written.
	auditWalk = 2000
	// auditClockAgain is when it is looked again at clocks that differ: nothing else tells that they agree again.
	auditClockAgain = time.Minute
	// auditVerifyPause is the least time between two passes through the whole log; each pass adds ten times what it took.
	auditVerifyPause = 5 * time.Second
)

// AuditLogReconciler keeps the head of the audit log: the ModelAuditLog named cluster, which it creates.
//
// It walks forward from the record that the head counted last, so that a reconcile costs what is new. It never caches
// records: a watch of their names tells that there are new ones, and what it keeps is two words. It goes through the
// whole log, a page at a time, only where something is wrong: when a record was removed or appeared elsewhere than at the end,
// or when their number, compared at the start and every ten minutes, is not that of the head. It counts on beyond a
// gap, and says Ready=False, LogGap until the missing records are back.
type AuditLogReconciler struct {
	// Live reads, watches and writes without a cache. SetupWithManager sets it if it is nil.
	Live client.WithWatch
	// Clock tells the time. Default: the real one.
	Clock clock.Clock
	// Audit gets an entry when the time mark is reset. Required where that may be asked for.
	Audit AuditLog
	// Time says how the operator's clock and the API server's differ, and which creation times make a mark. Optional: without
	// it, nothing is said of the former, and all do.
	Time APITime
	// Events tells of clocks that begin to differ, and of the mark's resets. Optional.
	Events events.EventRecorder
	// Debounce is how long changes gather before the head is written. Default 2 s.
	Debounce time.Duration

	records    *recordWatch
	recountDue time.Time
	verifyDue  time.Time // when the whole log may be read again
}

// SetupWithManager registers the controller, which runs on the leader.
func (r *AuditLogReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Live == nil {
		live, err := client.NewWithWatch(mgr.GetConfig(), client.Options{
			HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		})
		if err != nil {
			return fmt.Errorf("making a client without a cache: %w", err)
		}
		r.Live = live
	}
	r.setDefaults()
	return ctrl.NewControllerManagedBy(mgr).Named("modelauditlog").
		For(&v1alpha1.ModelAuditLog{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(source.Func(r.watchRecords)).
		Complete(r)
}

func (r *AuditLogReconciler) setDefaults() {
	if r.Clock == nil {
		r.Clock = clock.RealClock{}
	}
	if r.Debounce <= 0 {
		r.Debounce = auditDebounce
	}
	if r.records == nil {
		r.records = newRecordWatch(r.Live, r.Clock)
	}
}

// watchRecords enqueues the head after changes of the records. The queue merges what comes within Debounce.
func (r *AuditLogReconciler) watchRecords(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	request := reconcile.Request{NamespacedName: client.ObjectKey{Name: v1alpha1.AuditLogName}}
	go r.records.run(ctx, func(interrupted bool) {
		if interrupted {
			queue.Add(request)
			return
		}
		queue.AddAfter(request, r.Debounce)
	})
	return nil
}

// Reconcile brings the head of the log up to date.
func (r *AuditLogReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if req.Name != v1alpha1.AuditLogName {
		return ctrl.Result{}, nil
	}
	head, err := r.head(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.resetMark(ctx, head); err != nil {
		return ctrl.Result{}, err
	}
	found, err := r.look(ctx, head)
	if err != nil {
		return ctrl.Result{}, err
	}
	status := auditLogStatus(head, found)
	if r.judgeClock(head, &status) && found.again > auditClockAgain {
		found.again = auditClockAgain
	}
	if !equality.Semantic.DeepEqual(status, head.Status) {
		head.Status = status
		if err := r.Live.Status().Update(ctx, head); err != nil {
			return ctrl.Result{}, fmt.Errorf("writing the head of the audit log: %w", err)
		}
	}
	return ctrl.Result{RequeueAfter: max(found.again, time.Millisecond)}, nil
}

// head reads the head of the log, or creates it.
func (r *AuditLogReconciler) head(ctx context.Context) (*v1alpha1.ModelAuditLog, error) {
	head := &v1alpha1.ModelAuditLog{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, head)
	if apierrors.IsNotFound(err) {
		head.Name = v1alpha1.AuditLogName
		err = r.Live.Create(ctx, head)
	}
	if err != nil {
		return nil, fmt.Errorf("reading or creating the head of the audit log: %w", err)
	}
	return head, nil
}

// look walks over the records that are new since the head was written, and verifies the whole log if need be.
func (r *AuditLogReconciler) look(ctx context.Context, head *v1alpha1.ModelAuditLog) (auditFindings, error) {
	found := auditFindings{Checker: checkerOf(head.Status, r.credible()), again: auditRecount}
	if r.records.begun.Swap(false) {
		r.recountDue = time.Time{}
	}
	if found.LastRecord == "" { // nothing counted yet, or the head was lost
		return r.verify(ctx, found.Checker)
	}
	// A record that was created before this point is reached by the walk, unless one before it is missing.
	newest := r.records.newest.Load()
	suspicious := r.records.suspicious.Swap(false)
	ended, err := r.walk(ctx, &found.Checker)
	if err == nil && !ended {
		found.unfinished, found.again = true, 0
		r.records.suspicious.CompareAndSwap(false, suspicious)
		return found, nil
	}
	suspicious = suspicious || newest >= found.Size
	if now := r.Clock.Now(); err == nil && !suspicious && !now.Before(r.recountDue) {
		suspicious, err = r.recount(ctx, &found.Checker)
		r.recountDue = now.Add(auditRecount)
	}
	if err != nil || !suspicious {
		r.records.suspicious.CompareAndSwap(false, suspicious)
		return found, err
	}
	if wait := r.verifyDue.Sub(r.Clock.Now()); wait > 0 {
		r.records.suspicious.Store(true)
		found.again = wait
		return found, nil
	}
	verified, err := r.verify(ctx, found.Checker)
	if err != nil {
		r.records.suspicious.Store(true)
	}
	return verified, err
}

// walk adds the records that follow the last one, and says whether it came to the end.
func (r *AuditLogReconciler) walk(ctx context.Context, c *audit.Checker) (ended bool, err error) {
	left := auditWalk
	for record, err := range audit.Walk(ctx, r.Live, c.Size) {
		if err != nil {
			return false, err
		}
		c.Add(record)
		if left--; left == 0 {
			return false, nil
		}
	}
	return true, nil
}

// recount compares the number of records with those that were counted. Others may be written in the meantime, so it walks on
// as long as this leads on.
func (r *AuditLogReconciler) recount(ctx context.Context, c *audit.Checker) (suspicious bool, err error) {
	for {
		count, _, err := audit.Count(ctx, r.Live)
		if err != nil || count < 0 || count == c.Records {
			return false, err
		}
		if count < c.Records {
			return true, nil
		}
		before := c.Records
		if _, err := r.walk(ctx, c); err != nil {
			return false, err
		}
		if c.Records == before {
			return true, nil
		}
	}
}

// verify goes through the whole log, of which the size and the time mark were known before: a log does not shrink, and
// records that were counted say nothing new of the time. It may not be repeated at once: the longer it took, the later.
func (r *AuditLogReconciler) verify(ctx context.Context, known audit.Checker) (auditFindings, error) {
	begun := r.Clock.Now()
	found := auditFindings{again: auditRecount, verified: true}
	found.Mark, found.Credible = known.Mark, known.Credible
	for record, err := range audit.Records(ctx, r.Live, 0) {
		if err != nil {
			return found, err
		}
		found.Add(record)
		if record.Spec.FirstIndex < known.Size && !known.Mark.IsZero() {
			found.Mark = known.Mark
		}
	}
	found.Expect(known.Size)
	now := r.Clock.Now()
	r.verifyDue = now.Add(auditVerifyPause + 10*now.Sub(begun))
	r.recountDue = now.Add(auditRecount)
	return found, nil
}
