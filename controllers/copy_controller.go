package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/registry"
)

// copyWorkers is how many pods are compared at once.
const copyWorkers = 8

// CopyIndex recognises copies of licensed images: *copies.Index.
type CopyIndex interface {
	// Match says of which licences' images an image is a copy, by its digest and by what it consists of.
	Match(digest string, manifests ...copies.Manifest) []copies.Match
	// Subscribe calls f with each licence whose images become known from now on.
	Subscribe(f func(license string))
}

// CopyReconciler compares the images that nodes report of running pods with those of licences. A pod that runs the same
// image under a name which the licence does not cover, or one that was built from it, runs a copy: that is an audit entry,
// an Event on pod and licence, and the pod's condition modelrights.dev/Copy; with terms.onCopy Evict the pod is evicted.
// What the licence covers by name is no copy: the pod is entitled to it, or was refused, or is found by PodReconciler.
type CopyReconciler struct {
	// Client reads from the cache, writes the pod's condition and evicts. Live reads from the API server itself.
	Client client.Client
	Live   client.Reader
	// Rights decides what a licence covers.
	Rights Snapshots
	// Index knows the licensed images, Layers what others consist of. Layers is asked beside the workers.
	Index  CopyIndex
	Layers registry.Layers
	// Tracker is told which pods run copies.
	Tracker *CopyTracker
	// Audit gets an entry for each pod and licence.
	Audit PodLog
	// Events gets an Event on the pod and on the licence.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Protected are the namespaces whose pods are not evicted.
	Protected []string

	pace    foundPace
	told    eventBudget
	sweeps  sweeps
	layers  *copyLayers
	evictor evictor
	// loaded are the licences whose images have become known since the start.
	loaded sync.Map
}

// SetupWithManager registers the controller: for pods of which a node reports other images, for licences and grants, and
// for what becomes known of licensed and of running images.
func (r *CopyReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.layers = newCopyLayers(r.Layers, r.Clock)
	r.evictor.client, r.evictor.protected = r.Client, r.Protected
	r.Index.Subscribe(func(license string) {
		r.loaded.Store(license, true)
		r.layers.changed()
		r.sweeps.needAll()
	})
	reported := predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*corev1.Pod)
			after, ok2 := e.ObjectNew.(*corev1.Pod)
			return !ok1 || !ok2 || ended(before) != ended(after) || !sameRunningImages(before, after)
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).Named("copy").
		For(&corev1.Pod{}, builder.WithPredicates(reported)).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.Rights.Subscribe(func(o client.Object) {
				r.layers.changed()
				r.sweeps.changed(o)
			})
			add := func(pod PodRef) { addLow(queue, reconcile.Request{NamespacedName: pod}) }
			r.layers.run(ctx, add)
			go r.sweeps.run(ctx, r.Client, copySweepPause, func(ctx context.Context, namespace string, pods []corev1.Pod) error {
				return r.visit(ctx, namespace, pods, add)
			})
			return nil
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: copyWorkers}).
		Complete(r)
}

// ended says whether a pod's containers run no more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// visit adds the pods of a namespace that run copies, or did.
func (r *CopyReconciler) visit(ctx context.Context, namespace string, pods []corev1.Pod, add func(PodRef)) error {
	labels, err := r.Rights.NamespaceLabels(ctx, namespace, false)
	if err != nil {
		return err
	}
	snapshot, _ := r.Rights.Snapshot()
	for i := range pods {
		if pod := &pods[i]; !ended(pod) {
			if s := r.stand(pod, labels, snapshot); len(s.copies) > 0 || s.condition != nil {
				add(client.ObjectKeyFromObject(pod))
			}
		}
	}
	return nil
}

// Reconcile compares one pod.
func (r *CopyReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	snapshot, synced := r.Rights.Snapshot()
	if !synced {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if err := r.payDebt(ctx, req.NamespacedName); err != nil {
		return ctrl.Result{}, err
	}
	var pod corev1.Pod
	err := r.Client.Get(ctx, req.NamespacedName, &pod)
	if err != nil || ended(&pod) {
		if client.IgnoreNotFound(err) == nil {
			r.pace.gone(req.NamespacedName)
			r.Tracker.set(req.NamespacedName, nil)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return withoutNamespace(err)
	}
	cached := r.stand(&pod, labels, snapshot)
	if cached.settled() && (!wanted(cached.copies) || !r.evictor.evictable(&pod)) {
		r.Tracker.set(req.NamespacedName, cached.licenses())
		return ctrl.Result{RequeueAfter: cached.again}, nil
	}
	if wait := r.pace.wait(req.NamespacedName, r.Clock.Now(), pod.CreationTimestamp.Time); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return r.reconcileLive(ctx, req.NamespacedName)
}

// reconcileLive looks again at what the API server has now, so that nobody is accused, and nothing evicted, by a cache.
func (r *CopyReconciler) reconcileLive(ctx context.Context, name PodRef) (ctrl.Result, error) {
	var pod corev1.Pod
	if err := r.Live.Get(ctx, name, &pod); err != nil || ended(&pod) {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	snapshot, err := r.Rights.Live(ctx, pod.Namespace)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading licences and grants: %w", err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, true)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	stands := r.stand(&pod, labels, snapshot)
	for _, c := range stands.copies {
		if current, err := isCurrent(ctx, r.Live, c.license); err != nil {
			return ctrl.Result{}, err
		} else if !current {
			return ctrl.Result{RequeueAfter: retryStale}, nil
		}
	}
	if !stands.settled() {
		if err := r.settle(ctx, &pod, stands); err != nil {
			return ctrl.Result{}, err
		}
	}
	r.Tracker.set(name, stands.licenses())
	if wanted(stands.copies) && r.evictor.evictable(&pod) {
		return r.evict(ctx, &pod, stands)
	}
	return ctrl.Result{RequeueAfter: stands.again}, nil
}

// stand compares a pod's images with those of licences. Layers are asked for only of images that no licence has.
func (r *CopyReconciler) stand(pod *corev1.Pod, namespaceLabels map[string]string, snapshot *entitlement.Snapshot) copyStanding {
	s := copyStanding{logged: marksOf(pod, v1alpha1.PodConditionCopy), condition: conditionOf(pod, v1alpha1.PodConditionCopy)}
	byLicense := map[string][]copied{}
	if snapshot.GovernsAnything() {
		for _, image := range runningImages(pod) {
			matches := r.Index.Match(image.digest)
			if len(matches) == 0 {
				manifests, again := r.layers.of(image, client.ObjectKeyFromObject(pod))
				if again > 0 && (s.again == 0 || again < s.again) {
					s.again = again
				}
				matches = r.Index.Match(image.digest, manifests...)
			}
			for _, match := range matches {
				byLicense[match.License] = append(byLicense[match.License], copied{image, match})
			}
		}
	}
	// What the pod runs it has begun: it is in its licences' grace periods as long as there are such.
	subject := entitlement.Pod{Namespace: pod.Namespace, NamespaceLabels: namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec, Held: true}
	decided := entitlement.DecidePod(subject, snapshot, r.Clock.Now())
	names := make([]string, 0, len(byLicense))
	for name := range byLicense {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		license := snapshot.License(name)
		if license == nil {
			continue
		}
		covered := entitlement.DecidePodFor(subject, name, snapshot, r.Clock.Now())
		foreign := slices.DeleteFunc(byLicense[name], func(c copied) bool {
			return slices.ContainsFunc(covered, func(u entitlement.UseDecision) bool { return u.Kind == c.image.kind && u.Name == c.image.name })
		})
		if len(foreign) > 0 {
			c := podCopyOf(pod, license, foreign)
			c.licensed = !slices.ContainsFunc(foreign, func(c copied) bool {
				return !slices.ContainsFunc(decided, func(u entitlement.UseDecision) bool {
					return u.Entitled() && u.Kind == c.image.kind && u.Name == c.image.name
				})
			})
			s.copies = append(s.copies, c)
		}
	}
	s.claims = r.claims(s, snapshot)
	return s
}

// claims lists the licences that a pod's condition names and whose images are not known since the start.
func (r *CopyReconciler) claims(s copyStanding, snapshot *entitlement.Snapshot) []string {
	var claims []string
	for _, mark := range s.logged {
		name, _, ok := strings.Cut(mark, "/")
		if _, loaded := r.loaded.Load(name); !ok || loaded || snapshot.License(name) == nil || slices.Contains(claims, name) {
			continue
		}
		if !slices.ContainsFunc(s.copies, func(c podCopy) bool { return c.license.Name == name }) {
			claims = append(claims, name)
		}
	}
	return claims
}

// settle makes the entries durable, then says so on the pod, then tells people.
func (r *CopyReconciler) settle(ctx context.Context, pod *corev1.Pod, s copyStanding) error {
	unlogged := s.unlogged()
	appendCtx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, c := range unlogged {
		entry := c.detected(pod)
		if _, err := r.Audit.Report(appendCtx, entry); err != nil {
			return fmt.Errorf("logging %s: %w", entry.Type, err)
		}
	}
	if err := patchPodCondition(ctx, r.Client, pod, v1alpha1.PodConditionCopy, s.desired(r.Clock.Now())); err != nil {
		return err
	}
	for _, c := range unlogged {
		if r.told.take(r.Clock.Now(), pod.Namespace) {
			copyEvent(r.Events, v1alpha1.ReasonCopyDetected, pod, c.license, c.note)
			copyEvent(r.Events, v1alpha1.ReasonCopyDetected, c.license, pod, fmt.Sprintf("pod %s/%s: %s", pod.Namespace, pod.Name, c.note))
		}
	}
	return nil
}

// evict evicts a pod, and logs and tells that once it has happened.
func (r *CopyReconciler) evict(ctx context.Context, pod *corev1.Pod, s copyStanding) (ctrl.Result, error) {
	wait, done, err := r.evictor.evict(ctx, pod, r.Clock.Now())
	if err != nil || !done {
		return ctrl.Result{RequeueAfter: wait}, err
	}
	var entries []audit.Entry
	for _, c := range s.copies {
		if c.license.Spec.Terms.OnCopy != v1alpha1.CopyPolicyEvict {
			continue
		}
		entries = append(entries, c.evicted(pod))
		if r.told.take(r.Clock.Now(), pod.Namespace) {
			copyEvent(r.Events, v1alpha1.ReasonCopyEvicted, pod, c.license, "evicted: "+c.note)
			copyEvent(r.Events, v1alpha1.ReasonCopyEvicted, c.license, pod, fmt.Sprintf("pod %s/%s evicted: %s", pod.Namespace, pod.Name, c.note))
		}
	}
	name := client.ObjectKeyFromObject(pod)
	r.evictor.owes(name, entries)
	return ctrl.Result{}, r.payDebt(ctx, name)
}

// payDebt logs evictions that have happened.
func (r *CopyReconciler) payDebt(ctx context.Context, pod PodRef) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, entry := range r.evictor.debt(pod) {
		if _, err := r.Audit.Report(ctx, entry); err != nil {
			return fmt.Errorf("logging %s: %w", entry.Type, err)
		}
	}
	r.evictor.owes(pod, nil)
	return nil
}
