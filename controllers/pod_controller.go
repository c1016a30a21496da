package controllers

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	// record.
	podWorkers = 64

	// auditTimeout bounds the wait for an entry; the pod is tried again then.
	auditTimeout = 15 * time.Second

	// retryStale is when a pod is looked at again whose licence is not in the cache as the API server has it.
	retryStale = time.Second
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

	pace   foundPace
	told   eventBudget
	sweeps sweeps
	// governed is the sweep's alone.
	governed governedImages
}

// SetupWithManager registers the controller for pods whose spec or labels are written, and for licences, grants and
// labels of namespaces once the snapshot takes account of them: a pod's event may come before that of the grant which
// admitted it, and a licence after the pods that use its images.
func (r *PodReconciler) SetupWithManager(mgr ctrl.Manager) error {
	written := predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return true },
		UpdateFunc:  func(e event.UpdateEvent) bool { return specWritten(e) || relabelled(e) },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	namespaces := handler.Funcs{UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if relabelled(e) {
			r.sweeps.need(e.ObjectNew.GetName())
		}
	}}
	return ctrl.NewControllerManagedBy(mgr).Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(written)).
		Watches(&corev1.Namespace{}, namespaces).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.Rights.Subscribe(r.sweeps.changed)
			go r.sweeps.run(ctx, r.Client, sweepPause, func(ctx context.Context, namespace string, pods []corev1.Pod) error {
				return r.visit(ctx, namespace, pods, func(request reconcile.Request) { addLow(queue, request) })
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

// specWritten leaves out the kubelet's many status updates, where the API server counts a pod's generations: since 1.33.
func specWritten(e event.UpdateEvent) bool {
	return e.ObjectNew.GetGeneration() == 0 || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration()
}

// relabelled: labels decide where a grant selects pods, and a licence namespaces.
func relabelled(e event.UpdateEvent) bool {
	return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
}

// Reconcile logs one pod, if not all that it comes to has been logged, and brings its condition up to date. What the cache
// shows as not logged is read live first: the cache may not yet show the mark that was just set.
func (r *PodReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	snapshot, synced := r.Rights.Snapshot()
	if !synced {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	var pod corev1.Pod
	if err := r.Client.Get(ctx, req.NamespacedName, &pod); err != nil {
		r.pace.gone(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	cached := r.stand(&pod, labels, snapshot)
	if cached.settled() && !isCut(&pod) {
		return r.after(cached), nil
	}
	if len(cached.found) > 0 || isCut(&pod) {
		if wait := r.pace.wait(req.NamespacedName, r.Clock.Now(), pod.CreationTimestamp.Time); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
	}
	pod = corev1.Pod{}
	if err := r.Live.Get(ctx, req.NamespacedName, &pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	stands := r.stand(&pod, labels, snapshot)
	if len(stands.found) > 0 {
		var current bool
		if stands, current, err = r.standLive(ctx, &pod); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		} else if !current {
			return ctrl.Result{RequeueAfter: retryStale}, nil
		}
	}
	if stands.settled() {
		return r.after(stands), nil
	}
	return r.after(stands), r.settle(ctx, &pod, stands)
}

// after is when a pod is looked at again by itself.
func (r *PodReconciler) after(s standing) ctrl.Result {
	if at := s.begins(); !at.IsZero() {
		return ctrl.Result{RequeueAfter: max(time.Second, at.Sub(r.Clock.Now()))}
	}
	return ctrl.Result{}
}

func (r *PodReconciler) stand(pod *corev1.Pod, namespaceLabels map[string]string, snapshot *entitlement.Snapshot) standing {
	return standingOf(pod, entitlement.DecidePod(entitlement.Pod{
		Namespace: pod.Namespace, NamespaceLabels: namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec,
	}, snapshot, r.Clock.Now()))
}

// standLive is stand by what the API server has now, as the webhook denies: an accusation rests on no cache. It says no
// where a licence that is spoken of has changed since the cache last heard of it.
func (r *PodReconciler) standLive(ctx context.Context, pod *corev1.Pod) (s standing, current bool, err error) {
	snapshot, err := r.Rights.Live(ctx, pod.Namespace)
	if err != nil {
		return standing{}, false, fmt.Errorf("reading licences and grants: %w", err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, true)
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
	appendCtx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, a := range admitted {
		if err := appendEntry(appendCtx, r.Audit, a.entry); err != nil {
			return err
		}
	}
	for _, f := range found {
		if _, err := r.Audit.Report(appendCtx, f.entry); err != nil {
			return fmt.Errorf("logging %s: %w", f.entry.Type, err)
		}
	}
	if err := patchPodCondition(ctx, r.Client, pod, v1alpha1.PodConditionLicensed, s.desired(r.Clock.Now())); err != nil {
		return err
	}
	for _, a := range admitted {
		license, grant := a.use.License, a.use.Grant
		admittedEvent(r.Events, pod, license, "admitted under "+a.note)
		admittedEvent(r.Events, license, pod, fmt.Sprintf("pod %s/%s admitted by grant %s", pod.Namespace, pod.Name, grant.Name))
		admittedEvent(r.Events, grant, pod, fmt.Sprintf("pod %s admitted under licence %s", pod.Name, license.Name))
	}
	for _, f := range found {
		if r.told.take(r.Clock.Now(), pod.Namespace) {
			foundEvent(r.Events, pod, "runs without entitlement "+f.note)
		}
	}
	return nil
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
