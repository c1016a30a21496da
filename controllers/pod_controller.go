package controllers

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// podWorkers is how many pods wait at once for their entries to become durable; those that wait together share a
	// record. With one record in 200 ms it takes so many for several hundred pods a second.
	podWorkers = 256

	// auditTimeout bounds the wait for an entry; the pod is tried again then.
	auditTimeout = 15 * time.Second

	// retryStale is when a pod is looked at again whose licence is not in the cache as the API server has it.
	retryStale = time.Second

	// retryResize is when a pod is looked at again whose seat counts for other than what it requests by the cache: while it
	// is resized it counts for the most of both, and its event may come before the cache shows the seat.
	retryResize = 15 * time.Second
)

// Snapshots is where the current licences and grants are had from.
type Snapshots interface {
	// Snapshot returns what is known now, and whether it is complete.
	Snapshot() (*entitlement.Snapshot, bool)
	// Live returns the same with a namespace's grants, and the licences they name, as the API server has them now.
	Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error)
	// NamespaceLabels returns the labels of a namespace.
	NamespaceLabels(ctx context.Context, namespace string, live bool) (map[string]string, error)
	// Subscribe calls f with each licence and grant that changes from now on.
	Subscribe(f func(client.Object))
}

// PodLog is where stored pods are logged.
type PodLog interface {
	AuditLog
	// Report writes what users cause at will: within a budget, and counted where that is used up.
	Report(ctx context.Context, e audit.Entry) (audit.Fate, error)
}

// PodReconciler decides on every stored pod. Where it is entitled it writes an audit entry for each pod and licence, and
// another where an update or an ephemeral container brings in another image. It does so from the stored pod, since quota
// and other webhooks can still refuse a pod that ours let pass. Where a pod is not entitled, and never was, it got past
// admission: a static pod, one in an exempt namespace, one that came before modelrights or while it was away. That is
// found: an entry of type Found, an Event, and the pod's condition modelrights.dev/Licensed is False. The condition says by
// its marks which entries are there.
//
// A pod with our scheduling gate waits: it is told so, the allocator takes its seats, and its gate is removed once it has
// all of them and that is logged (pod_gated.go). A pod that runs entitled without a seat is given one (pod_adopt.go).
type PodReconciler struct {
	// Client reads from the cache and writes the pod's condition. Live reads from the API server itself.
	Client client.Client
	Live   client.Reader
	// Rights decides under which licences a pod runs.
	Rights Snapshots
	// Audit gets an entry for each pod and licence.
	Audit PodLog
	// Events gets an Event on the pod, the licence and the grant.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Seats takes the seats of pods that wait.
	Seats *SeatAllocator

	pace   foundPace
	told   eventBudget
	sweeps sweeps
	// admittedTold bounds the Events about admissions, waitingTold those about pods that begin to wait.
	admittedTold, waitingTold eventBudget
	// doubts are about gated pods that nothing seems to govern.
	doubts gateDoubts
	// governed is the sweep's alone.
	governed governedImages
	// nodes are those that pods run on.
	nodes seatNodes
	// marks are those of seats that are about to be given back.
	marks giveBackMarks
}

// SetupWithManager registers the controller for pods whose spec or labels are written, and for licences, grants and
// labels of namespaces once the snapshot takes account of them: a pod's event may come before that of the grant which
// admitted it, and a licence after the pods that use its images.
func (r *PodReconciler) SetupWithManager(mgr ctrl.Manager) error {
	written := predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return true },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return specWritten(e) || relabelled(e) || isOverNow(e) || isResizedNow(e) || isRestoredNow(e)
		},
		DeleteFunc:  func(e event.DeleteEvent) bool { return r.Seats.Queue.drop(client.ObjectKeyFromObject(e.Object)) },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	namespaces := handler.Funcs{UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if relabelled(e) {
			r.sweeps.need(e.ObjectNew.GetName())
		}
	}}
	r.Seats.Ledgers.Subscribe(r.Seats.Queue.touch)
	r.sweeps.swept = r.Seats.Queue.filled
	return ctrl.NewControllerManagedBy(mgr).Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(written)).
		Watches(&corev1.Namespace{}, namespaces).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.Rights.Subscribe(r.changed)
			if err := r.nodes.watch(ctx, mgr.GetCache(), r.sweeps.needAll); err != nil {
				return err
			}
			r.sweeps.needAll() // so that every pod is known before seats are taken
			go r.sweeps.run(ctx, r.Client, sweepPause, func(ctx context.Context, namespace string, pods []corev1.Pod) error {
				return r.visit(ctx, namespace, pods, func(request reconcile.Request) { addLow(queue, request) })
			})
			go r.Seats.run(ctx, func(pod types.NamespacedName, urgent bool) {
				if request := (reconcile.Request{NamespacedName: pod}); urgent {
					queue.Add(request)
				} else {
					addLow(queue, request)
				}
			})
			return nil
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: podWorkers}).
		Complete(r)
}

// addLow queues a request behind those of pods that were just written.
func addLow(queue workqueue.TypedRateLimitingInterface[reconcile.Request], request reconcile.Request) {
	if q, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		q.AddWithOpts(priorityqueue.AddOpts{Priority: ptr.To(handler.LowPriority)}, request)
		return
	}
	queue.Add(request)
}

// changed takes notice of a licence or grant: its pods are decided anew, and its queue is.
func (r *PodReconciler) changed(o client.Object) {
	r.sweeps.changed(o)
	switch o := o.(type) {
	case *v1alpha1.ModelLicense:
		r.Seats.Queue.touch(o.Name)
	case *v1alpha1.ModelGrant:
		r.Seats.Queue.touch(o.Spec.LicenseName)
	}
}

// Reconcile logs one pod, if not all that it comes to has been logged, sees to its seats, and brings its condition up to
// date. What the cache shows as not logged is read live first: the cache may not yet show the mark that was just set.
func (r *PodReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	snapshot, synced := r.Rights.Snapshot()
	if !synced || !r.Seats.Ledgers.Synced() {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	var pod corev1.Pod
	if err := r.Client.Get(ctx, req.NamespacedName, &pod); err != nil {
		r.pace.gone(req.NamespacedName)
		r.Seats.Queue.drop(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return withoutNamespace(err)
	}
	if isGated(&pod) {
		return r.reconcileGated(ctx, &pod, labels, snapshot)
	}
	cached := r.stand(&pod, labels, snapshot)
	r.observe(&pod, cached)
	if cached.settled() && r.isSeated(&pod, cached) && !isCut(&pod) {
		return r.after(cached), nil
	}
	if len(cached.found) > 0 || isCut(&pod) {
		if wait := r.pace.wait(req.NamespacedName, r.Clock.Now(), pod.CreationTimestamp.Time); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	return r.reconcileLive(ctx, &pod, labels, snapshot)
}

// reconcileLive is Reconcile for a pod that is not settled by what the cache says.
func (r *PodReconciler) reconcileLive(ctx context.Context, cached *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) (ctrl.Result, error) {
	var pod corev1.Pod
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(cached), &pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if isGated(&pod) {
		return ctrl.Result{}, nil // a later pod of the name, which the cache does not have yet
	}
	stands := r.stand(&pod, labels, snapshot)
	if len(stands.found) > 0 {
		var current bool
		var err error
		if stands, current, err = r.standLive(ctx, &pod); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		} else if !current {
			return ctrl.Result{RequeueAfter: retryStale}, nil
		}
	}
	r.observe(&pod, stands)
	if seated, err := r.adopt(ctx, &pod, stands); err != nil {
		return ctrl.Result{}, err
	} else if !seated {
		return ctrl.Result{RequeueAfter: retryAdoption}, nil
	}
	after := r.after(stands)
	if !r.isSeated(cached, stands) && after.RequeueAfter == 0 {
		after.RequeueAfter = retryResize
	}
	if stands.settled() {
		return after, nil
	}
	return after, r.settle(ctx, &pod, stands)
}

// after is when a pod is looked at again by itself.
func (r *PodReconciler) after(s standing) ctrl.Result {
	now := r.Clock.Now()
	if at := s.begins(now); !at.IsZero() {
		return ctrl.Result{RequeueAfter: max(time.Second, at.Sub(now))}
	}
	return ctrl.Result{}
}

// withoutNamespace has a pod looked at again whose namespace's labels cannot be read: the cache may know of the pod before it
// knows of the namespace.
func withoutNamespace(err error) (ctrl.Result, error) {
	if apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: retryStale}, nil
	}
	return ctrl.Result{}, err
}

func (r *PodReconciler) stand(pod *corev1.Pod, namespaceLabels map[string]string, snapshot *entitlement.Snapshot) standing {
	return standingOf(pod, r.decide(pod, namespaceLabels, snapshot))
}

// decide decides on a pod as it is: one that has its seats, or was admitted before there were any, is not new.
func (r *PodReconciler) decide(pod *corev1.Pod, namespaceLabels map[string]string, snapshot *entitlement.Snapshot) entitlement.PodDecision {
	subject := entitlement.Pod{Namespace: pod.Namespace, NamespaceLabels: namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec}
	if !isGated(pod) {
		subject.Seats = r.Seats.Ledgers.LicensesOf(pod.UID)
		subject.Held = len(subject.Seats) > 0 || wasAdmitted(pod)
	}
	return entitlement.DecidePod(subject, snapshot, r.Clock.Now())
}

// standLive is stand by what the API server has now, as the webhook denies: an accusation rests on no cache. It says no
// where a licence that is spoken of has changed since the cache last heard of it.
func (r *PodReconciler) standLive(ctx context.Context, pod *corev1.Pod) (s standing, current bool, err error) {
	snapshot, labels, err := r.liveRights(ctx, pod.Namespace)
	if err != nil {
		return standing{}, false, err
	}
	s = r.stand(pod, labels, snapshot)
	for _, f := range s.found {
		if current, err := isCurrent(ctx, r.Live, f.license); err != nil || !current {
			return standing{}, false, err
		}
	}
	return s, true, nil
}

// liveRights are a namespace's rights and labels as the API server has them now.
func (r *PodReconciler) liveRights(ctx context.Context, namespace string) (*entitlement.Snapshot, map[string]string, error) {
	snapshot, err := r.Rights.Live(ctx, namespace)
	if err != nil {
		return nil, nil, fmt.Errorf("reading licences and grants: %w", err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, true)
	if err != nil {
		return nil, nil, err
	}
	return snapshot, labels, nil
}

// isCurrent says whether a licence is as the API server has it now.
func isCurrent(ctx context.Context, live client.Reader, l *v1alpha1.ModelLicense) (bool, error) {
	if l == nil {
		return true, nil
	}
	var now v1alpha1.ModelLicense
	if err := live.Get(ctx, client.ObjectKeyFromObject(l), &now); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return false, nil
		}
		return false, fmt.Errorf("reading licence %s: %w", l.Name, err)
	}
	return now.UID == l.UID && now.Generation == l.Generation, nil
}

// settle makes the entries durable, then says so on the pod, then tells people.
func (r *PodReconciler) settle(ctx context.Context, pod *corev1.Pod, s standing) error {
	admitted, found := s.unlogged()
	if err := r.log(ctx, admitted, found); err != nil {
		return err
	}
	if err := patchPodCondition(ctx, r.Client, pod, v1alpha1.PodConditionLicensed, s.desired(r.Clock.Now())); err != nil {
		return err
	}
	r.tellAdmitted(pod, admitted)
	for _, f := range found {
		switch {
		case f.tolerated && !f.warned:
		case !r.told.take(r.Clock.Now(), pod.Namespace):
		case f.tolerated:
			toleratedEvent(r.Events, pod, "runs without entitlement "+f.note)
		default:
			foundEvent(r.Events, pod, "runs without entitlement "+f.note)
		}
	}
	return nil
}

// log makes entries durable. It writes them at the same time, so that they share a record.
func (r *PodReconciler) log(ctx context.Context, admitted []admission, found []finding) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	var group errgroup.Group
	for _, a := range admitted {
		group.Go(func() error { return appendEntry(ctx, r.Audit, a.entry) })
	}
	for _, f := range found {
		group.Go(func() error {
			if _, err := r.Audit.Report(ctx, f.entry); err != nil {
				return fmt.Errorf("logging %s: %w", f.entry.Type, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// tellAdmitted says on pod, licence and grant that the pod was admitted, within a budget: the log and the pod's condition
// say so in any case.
func (r *PodReconciler) tellAdmitted(pod *corev1.Pod, admitted []admission) {
	for _, a := range admitted {
		if !r.admittedTold.take(r.Clock.Now(), pod.Namespace) {
			continue
		}
		license, grant := a.use.License, a.use.Grant
		admittedEvent(r.Events, pod, license, "admitted under "+a.note)
		admittedEvent(r.Events, license, pod, fmt.Sprintf("pod %s/%s admitted by grant %s", pod.Namespace, pod.Name, grant.Name))
		admittedEvent(r.Events, grant, pod, fmt.Sprintf("pod %s admitted under licence %s", pod.Name, license.Name))
	}
}

// patchPodCondition sets a condition of a pod as it was read, or removes it where that is nil.
func patchPodCondition(ctx context.Context, c client.Client, pod *corev1.Pod, kind corev1.PodConditionType, condition *corev1.PodCondition) error {
	before := pod.DeepCopy()
	before.UID = "" // so that the patch names the UID, and is refused for a later pod of the same name
	setPodCondition(pod, kind, condition)
	err := c.Status().Patch(ctx, pod, client.StrategicMergeFrom(before))
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("setting condition %s of pod %s/%s: %w", kind, pod.Namespace, pod.Name, err)
	}
	return nil
}
