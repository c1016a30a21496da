package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
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
	r.ender.client, r.ender.protected = r.Client, r.Protected
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
		Watches(&corev1.Node{}, handler.Funcs{UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if relabelled(e) {
				r.nodeRelabelled(e.ObjectNew.GetName())
			}
		}}).
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

// rightsWritten takes notice of a licence or grant that was written or removed. It asks for no snapshot: where many are
// written one after another, each would be made anew.
func (r *RevocationReconciler) rightsWritten(o client.Object) {
	switch o := o.(type) {
	case *v1alpha1.ModelLicense:
		r.licenses.saw(o)
		of := rightsTime{name: o.Name}
		r.changed(of)
		r.times.at(of, entitlement.NextChange(o, nil, r.Clock.Now()))
	case *v1alpha1.ModelGrant:
		of := rightsTime{namespace: o.Namespace, name: o.Name}
		r.changed(of)
		r.times.at(of, nextOfGrant(o, r.Clock.Now()))
	}
}

// changed asks for a sweep of the pods that a licence or a grant concerns.
func (r *RevocationReconciler) changed(of rightsTime) {
	if of.namespace != "" {
		r.sweeps.need(of.namespace)
		return
	}
	if ledger := r.Ledgers.Ledger(of.name); ledger != nil {
		for _, namespace := range namespacesOf(ledger) {
			r.sweeps.need(namespace)
		}
	}
}

// nextChange is when a licence or grant changes by itself, or a pod holds a seat of the licence beyond its limits for too
// long.
func (r *RevocationReconciler) nextChange(of rightsTime, now time.Time) time.Time {
	snapshot, _ := r.Rights.Snapshot()
	if of.namespace != "" {
		for _, g := range snapshot.GrantsIn(of.namespace) {
			if g.Name == of.name {
				return nextOfGrant(g, now)
			}
		}
		return time.Time{}
	}
	var next time.Time
	if license := snapshot.License(of.name); license != nil {
		next = entitlement.NextChange(license, nil, now)
	}
	if ledger := r.Ledgers.Ledger(of.name); ledger != nil {
		if surge := surgeEnds(ledger, now); !surge.IsZero() && (next.IsZero() || surge.Before(next)) {
			next = surge
		}
	}
	return next
}

// ledgerWritten takes notice of a ledger: keys that were wiped, seats within the limits again, and seats beyond them.
func (r *RevocationReconciler) ledgerWritten(license string) {
	ledger := r.Ledgers.Ledger(license)
	if ledger == nil {
		r.forgetLicenses()
	}
	for _, w := range r.proceedings.wiped(license, func(pod types.UID) bool { return isWiped(r.Ledgers, license, pod) }) {
		if r.Metrics != nil {
			r.Metrics.wiped.Observe(r.Clock.Since(w.seen).Seconds())
		}
	}
	if last := r.licenses.last(license); ledger == nil || last != nil && last.Spec.Terms.Surge == nil {
		return
	}
	r.times.at(rightsTime{name: license}, surgeEnds(ledger, r.Clock.Now()))
	if add := r.add.Load(); add != nil {
		for _, pod := range r.proceedings.surged(license, func(pod types.UID) bool { return isSurge(ledger, pod) }) {
			(*add)(reconcile.Request{NamespacedName: pod})
		}
	}
}

// forgetLicenses forgets licences that are gone and of which nobody holds a seat.
func (r *RevocationReconciler) forgetLicenses() {
	if snapshot, synced := r.Rights.Snapshot(); synced && r.Ledgers.Synced() {
		r.licenses.forget(func(name string) bool { return snapshot.License(name) == nil && r.Ledgers.Ledger(name) == nil })
	}
}

// nodeRelabelled asks for a sweep of the pods on a node whose licence asks for labels.
func (r *RevocationReconciler) nodeRelabelled(node string) {
	for _, name := range r.Ledgers.Licenses() {
		license, ledger := r.licenses.last(name), r.Ledgers.Ledger(name)
		if license == nil || ledger == nil || len(license.Spec.Terms.NodeSelector) == 0 {
			continue
		}
		for _, h := range ledger.Holders() {
			if h.Node == node || h.Node == "" {
				r.sweeps.need(h.Grant.Namespace)
			}
		}
	}
}

// visit adds the pods of a namespace of which something is to be done.
func (r *RevocationReconciler) visit(ctx context.Context, namespace string, pods []corev1.Pod, add func(reconcile.Request)) error {
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, false)
	if err != nil {
		return err
	}
	snapshot, _ := r.Rights.Snapshot()
	if r.licenses.grown() {
		r.forgetLicenses()
	}
	for i := range pods {
		pod := &pods[i]
		held := r.held(pod)
		if len(held) == 0 {
			continue
		}
		revoked := isRevoked(conditionOf(pod, v1alpha1.PodConditionLicensed))
		if lost := lossesOf(pod, held, r.cachedFacts(ctx, pod, labels, snapshot)); isCut(pod) || revoked || len(lost) > 0 {
			add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return nil
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
	held := r.held(&pod)
	if len(held) == 0 {
		r.proceedings.end(req.NamespacedName)
		return ctrl.Result{RequeueAfter: r.untilSeated(&pod)}, nil
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	snapshot, _ := r.Rights.Snapshot()
	lost := lossesOf(&pod, held, r.cachedFacts(ctx, &pod, labels, snapshot))
	if len(lost) == 0 && !isCut(&pod) && !isRevoked(conditionOf(&pod, v1alpha1.PodConditionLicensed)) {
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
	held := r.held(&pod)
	if len(held) == 0 {
		return ctrl.Result{}, nil
	}
	lost, err := r.lostLive(ctx, &pod, held, labels, snapshot)
	switch {
	case err != nil:
		return ctrl.Result{}, client.IgnoreNotFound(err)
	case len(lost) > 0:
		return r.revoke(ctx, &pod, lost)
	case isRevoked(conditionOf(&pod, v1alpha1.PodConditionLicensed)):
		return ctrl.Result{}, r.restore(ctx, &pod, held)
	}
	return ctrl.Result{RequeueAfter: retryStale}, nil
}

// lostLive is lossesOf by what the API server has now.
func (r *RevocationReconciler) lostLive(ctx context.Context, pod *corev1.Pod, held []heldSeat, labels map[string]string, snapshot *entitlement.Snapshot) ([]loss, error) {
	names := make([]string, len(held))
	for i, seat := range held {
		names[i] = seat.license
	}
	live, liveLabels, err := r.reads.namespace(ctx, pod.Namespace, snapshot, labels, names)
	if err != nil {
		return nil, err
	}
	var nodeErr error
	lost := lossesOf(pod, held, rightsFacts{
		snapshot: live, namespaceLabels: liveLabels, last: r.licenses.last, now: r.Clock.Now(),
		nodeLabels: func() (map[string]string, bool) {
			cached, _ := r.cachedNode(ctx, pod.Spec.NodeName)
			nodeLabels, known, err := r.reads.node(ctx, pod.Spec.NodeName, cached)
			nodeErr = errors.Join(nodeErr, err)
			return nodeLabels, known && err == nil
		},
	})
	return lost, nodeErr
}

// revoke does what is due about a pod that lost licences: it makes the entries durable, says so on the pod and makes its
// node look, tells people, and ends the pod where a licence wants that.
func (r *RevocationReconciler) revoke(ctx context.Context, pod *corev1.Pod, lost []loss) (ctrl.Result, error) {
	p := r.proceedings.of(pod, r.Clock.Now())
	if news := unlogged(pod, lost); len(news) > 0 {
		if err := r.log(ctx, pod, news); err != nil {
			// A log that cannot be written shall not keep a key on a node.
			return ctrl.Result{}, errors.Join(err, r.notify(ctx, pod, p, lost, nil))
		}
		if err := r.notify(ctx, pod, p, lost, revokedCondition(pod, lost, r.Clock.Now())); err != nil {
			return ctrl.Result{}, err
		}
		r.tell(pod, news)
	} else if err := r.notify(ctx, pod, p, lost, nil); err != nil {
		return ctrl.Result{}, err
	}
	if !p.removed && slices.ContainsFunc(lost, loss.evicts) && r.ender.ends(pod) {
		if err := r.end(ctx, pod, p, lost); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: r.wait(pod, lost), Priority: ptr.To(handler.LowPriority)}, nil
}

// log makes the entries durable, at the same time, so that they share a record.
func (r *RevocationReconciler) log(ctx context.Context, pod *corev1.Pod, news []loss) error {
	ctx, cancel := context.WithTimeout(ctx, revocationAudit)
	defer cancel()
	for _, l := range news {
		if err := appendEntry(ctx, r.Audit, l.revoked(pod)); err != nil {
			return err
		}
	}
	return nil
}

// notify makes the pod's node look where that is due, and sets the pod's condition unless it is nil, in one write of the pod's
// status: no webhook has to let that pass.
func (r *RevocationReconciler) notify(ctx context.Context, pod *corev1.Pod, p *proceeding, lost []loss, condition *corev1.PodCondition) error {
	now := r.Clock.Now()
	onNode := slices.DeleteFunc(slices.Clone(lost), func(l loss) bool { return !l.onNode(pod) })
	looks := p.isDue(now) && slices.ContainsFunc(onNode, func(l loss) bool { return p.asked == 0 || !isWiped(r.Ledgers, l.name, pod.UID) })
	if looks || condition != nil {
		at := now
		if p.asked == 0 {
			at = p.seen
		}
		if err := patchRevocation(ctx, r.Client, pod, condition, looks, at); err != nil {
			return err
		}
	}
	if looks && p.asked == 0 {
		r.proceedings.waits(pod, p.seen, onNode)
		if r.Metrics != nil {
			r.Metrics.asked.Observe(r.Clock.Since(p.seen).Seconds())
		}
	}
	p.passed(now, len(onNode) > 0)
	return nil
}

// tell tells people, once the pod's condition says that all is logged.
func (r *RevocationReconciler) tell(pod *corev1.Pod, news []loss) {
	for _, l := range news {
		if r.Metrics != nil {
			r.Metrics.revoked.WithLabelValues(string(l.reason)).Inc()
		}
		revokedEvent(r.Events, v1alpha1.ReasonRevoked, pod, nil, "lost "+l.note())
		if l.license != nil {
			revokedEvent(r.Events, v1alpha1.ReasonRevoked, l.license, pod, fmt.Sprintf("pod %s/%s lost %s", pod.Namespace, pod.Name, l.note()))
		}
	}
}

// end ends a pod, and logs and tells that once it has happened.
func (r *RevocationReconciler) end(ctx context.Context, pod *corev1.Pod, p *proceeding, lost []loss) error {
	how, err := r.ender.end(ctx, pod, p, r.Clock.Now())
	if err != nil || how == "" {
		return err
	}
	for _, l := range lost {
		if l.evicts() {
			p.owed = append(p.owed, l.ended(pod, how))
			revokedEvent(r.Events, v1alpha1.ReasonRevokedPodEnded, pod, nil, fmt.Sprintf("%s: it lost %s", how, l.note()))
		}
	}
	if r.Metrics != nil {
		r.Metrics.ended.WithLabelValues(how.way()).Inc()
	}
	return r.payDebt(ctx, client.ObjectKeyFromObject(pod))
}

// payDebt logs what has happened.
func (r *RevocationReconciler) payDebt(ctx context.Context, pod PodRef) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, entry := range r.proceedings.debt(pod) {
		if err := appendEntry(ctx, r.Audit, entry); err != nil {
			return err
		}
	}
	r.proceedings.paid(pod)
	return nil
}

// restore says on a pod that it has back what it lost, and makes its node look, which asks for the key again.
func (r *RevocationReconciler) restore(ctx context.Context, pod *corev1.Pod, held []heldSeat) error {
	now := r.Clock.Now()
	if err := patchRevocation(ctx, r.Client, pod, restoredCondition(pod, held, now), pod.Spec.NodeName != "", now); err != nil {
		return err
	}
	r.proceedings.restored(pod)
	return nil
}
