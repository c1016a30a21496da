package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// revocationWorkers is how many pods are revoked at once.
	revocationWorkers = 64
	// revocationPause is the least time between two sweeps for pods that lost their entitlement.
	revocationPause = 20 * time.Millisecond
	// revocationAudit bounds the wait for the entry before the node is made to look without it.
	revocationAudit = 2 * time.Second
	// retryUnsynced is when it is looked again whether rights and ledgers are known.
	retryUnsynced = 200 * time.Millisecond
	// seatLag is how long after a pod was admitted the ledger may be without its seat, as far as the cache knows.
	seatLag = time.Minute
)

// RevocationReconciler finds pods that hold a seat and have lost the right to it: their licence or grant was deleted,
// suspended, narrowed or ended, or labels of the pod, its namespace or its node changed. That is logged, said on the pod
// and in an Event, and the pod is annotated, which makes kubelet call the node driver at once: the key service then answers that the
// key is to be wiped. What the licence's onRevoke says beyond that is done after.
//
// It decides by what the API server has now, read once for all pods that a change concerns. While licences, grants and
// ledgers are not known, or cannot be read, nothing is revoked. What it has done stands on the pod; what it has in memory is
// when to do what again.
type RevocationReconciler struct {
	// Client reads from the cache, and writes. Live reads from the API server itself.
	Client client.Client
	Live   client.Reader
	// Rights decides on pods.
	Rights Snapshots
	// Ledgers knows who holds seats.
	Ledgers SeatLedgers
	// Audit gets an entry for each pod and licence, and for each pod that is ended.
	Audit AuditLog
	// Events gets an Event on the pod and the licence.
	Events events.EventRecorder
	// Clock tells the time that licences are judged by. Timers runs the timers.
	Clock  clock.PassiveClock
	Timers clock.WithTicker
	// Protected are namespaces whose pods are not ended: kube-system, exempt ones and ours.
	Protected []string
	// Metrics is optional.
	Metrics *RevocationMetrics

	sweeps      sweeps
	times       *rightsTimes
	licenses    lastLicenses
	reads       sharedReads
	proceedings proceedings
	ender       ender
	// add queues a pod, once the controller has begun.
	add atomic.Pointer[func(reconcile.Request)]
}

// SetupWithManager registers the controller: for pods that are written, and for licences, grants, their times, ledgers, and
// the labels of namespaces and nodes. Call it before the cache starts, so that every licence has been seen.
func (r *RevocationReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.reads.rights, r.reads.live, r.reads.clock = r.Rights, r.Live, r.Clock
	clientset, err := kubernetes.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making a client for evictions: %w", err)
	}
	r.ender.client, r.ender.protected, r.ender.evictions = r.Client, r.Protected, evictOnce(clientset.CoreV1().RESTClient())
	r.times = newRightsTimes(r.Timers, r.Clock, r.nextChange, r.changed)
	r.Rights.Subscribe(r.rightsWritten)
	r.Ledgers.Subscribe(r.ledgerWritten)
	written := predicate.Funcs{
		UpdateFunc:  func(e event.UpdateEvent) bool { return specWritten(e) || relabelled(e) || standsOtherwise(e) },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).Named("revocation").
		For(&corev1.Pod{}, builder.WithPredicates(written)).
		Watches(&corev1.Namespace{}, handler.Funcs{UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if relabelled(e) {
				r.sweeps.need(e.ObjectNew.GetName())
			}
		}}).
		Watches(&corev1.Node{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				if !e.IsInInitialList { // a node that comes back under its name may have other labels
					r.nodeRelabelled(e.Object.GetName())
				}
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				if relabelled(e) {
					r.nodeRelabelled(e.ObjectNew.GetName())
				}
			},
		}).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.add.Store(ptr.To(queue.Add))
			go r.run(ctx, queue.Add)
			return nil
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: revocationWorkers}).
		Complete(r)
}

// standsOtherwise: a pod that was bound, is said to be admitted or revoked, or is on its way out.
func standsOtherwise(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	if !ok1 || !ok2 {
		return true
	}
	was, is := conditionOf(before, v1alpha1.PodConditionLicensed), conditionOf(after, v1alpha1.PodConditionLicensed)
	return before.Spec.NodeName != after.Spec.NodeName || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		is != nil && (was == nil || was.Status != is.Status || was.Reason != is.Reason)
}

// run sweeps until ctx ends, from when everything is known.
func (r *RevocationReconciler) run(ctx context.Context, add func(reconcile.Request)) {
	for !r.synced() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryUnsynced):
		}
	}
	r.timeSurges()
	go r.times.run(ctx)
	r.sweeps.needAll()
	r.sweeps.run(ctx, r.Client, revocationPause, func(ctx context.Context, namespace string, pods []corev1.Pod) error {
		return r.visit(ctx, namespace, pods, add)
	})
}

func (r *RevocationReconciler) synced() bool {
	_, synced := r.Rights.Snapshot()
	return synced && r.Ledgers.Synced()
}

// held are the seats of a pod that runs, or may: a pod with our gate gives its seats back to the allocator, one that has
// ended has nothing to lose.
func (r *RevocationReconciler) held(pod *corev1.Pod) []heldSeat {
	if isGated(pod) || isOver(pod) {
		return nil
	}
	return seatsOf(r.Ledgers, pod.UID)
}

func (r *RevocationReconciler) cachedFacts(ctx context.Context, pod *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) rightsFacts {
	return rightsFacts{
		snapshot: snapshot, namespaceLabels: labels, last: r.licenses.last, now: r.Clock.Now(),
		nodeLabels: func() (map[string]string, bool) { return r.cachedNode(ctx, pod.Spec.NodeName) },
	}
}

func (r *RevocationReconciler) cachedNode(ctx context.Context, name string) (map[string]string, bool) {
	var node corev1.Node
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &node, client.UnsafeDisableDeepCopy); err != nil {
		return nil, false
	}
	return node.Labels, true
}

// Reconcile looks at one pod.
func (r *RevocationReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if !r.synced() {
		return ctrl.Result{RequeueAfter: retryUnsynced}, nil
	}
	if err := r.payDebt(ctx, req.NamespacedName); err != nil {
		return ctrl.Result{}, err
	}
	var pod corev1.Pod
	if err := r.Client.Get(ctx, req.NamespacedName, &pod); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.proceedings.end(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	held, revoked := r.held(&pod), isRevoked(conditionOf(&pod, v1alpha1.PodConditionLicensed))
	if len(held) == 0 && (!revoked || !runsOn(&pod)) {
		r.proceedings.end(req.NamespacedName)
		return ctrl.Result{RequeueAfter: r.untilSeated(&pod)}, nil
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return withoutNamespace(err)
	}
	snapshot, _ := r.Rights.Snapshot()
	lost := lossesOf(&pod, held, r.cachedFacts(ctx, &pod, labels, snapshot))
	if len(lost) == 0 && !isCut(&pod) && !revoked {
		if r.proceedings.end(req.NamespacedName) {
			r.proceedings.restored(&pod)
		}
		return ctrl.Result{}, nil
	}
	if len(lost) > 0 && !r.isDue(&pod, lost) {
		return ctrl.Result{RequeueAfter: r.wait(&pod, lost)}, nil
	}
	return r.reconcileLive(ctx, &pod, labels, snapshot)
}

// runsOn says whether a pod runs, or may, and is not on its way out.
func runsOn(pod *corev1.Pod) bool {
	return !isGated(pod) && !isOver(pod) && pod.DeletionTimestamp.IsZero()
}

// untilSeated is when to look again at a pod that was just admitted, and of whose seat the cache does not know yet: it may
// have lost in between what it was admitted to.
func (r *RevocationReconciler) untilSeated(pod *corev1.Pod) time.Duration {
	c := conditionOf(pod, v1alpha1.PodConditionLicensed)
	if isOver(pod) || c == nil || c.Status != corev1.ConditionTrue || r.Clock.Since(c.LastTransitionTime.Time) > seatLag {
		return 0
	}
	return time.Second
}

// isDue says whether anything is to be done now about a pod that lost licences.
func (r *RevocationReconciler) isDue(pod *corev1.Pod, lost []loss) bool {
	now := r.Clock.Now()
	p := r.proceedings.of(pod, now)
	if len(unlogged(pod, lost)) > 0 || p.isDue(now) {
		return true
	}
	return !p.removed && slices.ContainsFunc(lost, loss.evicts) && r.ender.ends(pod) && !now.Before(p.tryAgain)
}

func (r *RevocationReconciler) wait(pod *corev1.Pod, lost []loss) time.Duration {
	now := r.Clock.Now()
	return r.proceedings.of(pod, now).wait(now, slices.ContainsFunc(lost, loss.evicts) && r.ender.ends(pod))
}

// reconcileLive looks again at what the API server has now, so that nobody is accused, and nothing ended, by a cache.
func (r *RevocationReconciler) reconcileLive(ctx context.Context, cached *corev1.Pod, labels map[string]string, snapshot *entitlement.Snapshot) (ctrl.Result, error) {
	var pod corev1.Pod
	name := client.ObjectKeyFromObject(cached)
	if err := r.Live.Get(ctx, name, &pod); err != nil || pod.UID != cached.UID {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	held, revoked := r.held(&pod), isRevoked(conditionOf(&pod, v1alpha1.PodConditionLicensed))
	lost, live, err := r.lostLive(ctx, &pod, held, labels, snapshot)
	switch {
	case err != nil:
		return ctrl.Result{}, client.IgnoreNotFound(err)
	case len(lost) > 0:
		return r.revoke(ctx, &pod, lost)
	case revoked && len(held) > 0:
		return ctrl.Result{}, r.restore(ctx, &pod, notesOf(held))
	case revoked && runsOn(&pod):
		return ctrl.Result{}, r.restoreSeatless(ctx, &pod, live)
	}
	r.proceedings.end(name) // what was suspected is not so
	if len(held) == 0 || isCut(cached) {
		return ctrl.Result{}, nil // by the cache nothing is known of a cut pod, now or in a second
	}
	return ctrl.Result{RequeueAfter: retryStale}, nil
}

// lostLive is lossesOf by what the API server has now, which it returns as well.
func (r *RevocationReconciler) lostLive(ctx context.Context, pod *corev1.Pod, held []heldSeat, labels map[string]string, snapshot *entitlement.Snapshot) ([]loss, rightsFacts, error) {
	names := make([]string, len(held))
	for i, seat := range held {
		names[i] = seat.license
	}
	live, liveLabels, err := r.reads.namespace(ctx, pod.Namespace, snapshot, labels, names)
	if err != nil {
		return nil, rightsFacts{}, err
	}
	var nodeErr error
	facts := rightsFacts{
		snapshot: live, namespaceLabels: liveLabels, last: r.licenses.last, now: r.Clock.Now(),
		nodeLabels: func() (map[string]string, bool) {
			cached, _ := r.cachedNode(ctx, pod.Spec.NodeName)
			nodeLabels, known, err := r.reads.node(ctx, pod.Spec.NodeName, cached)
			nodeErr = errors.Join(nodeErr, err)
			return nodeLabels, known && err == nil
		},
	}
	lost := lossesOf(pod, held, facts)
	return lost, facts, nodeErr
}
