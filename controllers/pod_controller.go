package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	"modelrights.dev/modelrights/internal/entitlement"
)

const (
	// podWorkers is how many pods wait at once for their entries to become durable; those that wait together share a
	// record.
	podWorkers = 64

	// auditTimeout bounds the wait for an entry; the pod is tried again then.
	auditTimeout = 15 * time.Second
)

// Snapshots is where the current licences and grants are had from.
type Snapshots interface {
	// Snapshot returns what is known now, and whether it is complete.
	Snapshot() (*entitlement.Snapshot, bool)
	// NamespaceLabels returns the labels of a namespace.
	NamespaceLabels(ctx context.Context, namespace string, live bool) (map[string]string, error)
	// Subscribe calls f with each licence and grant that changes from now on.
	Subscribe(f func(client.Object))
}

// PodReconciler writes an audit entry for each pod and licence under which it was admitted, and another where an update
// or an ephemeral container brings in another image. It does so from the stored pod, since quota and other webhooks can
// still refuse a pod that ours let pass. The pod's condition modelrights.dev/Licensed says which entries are there.
type PodReconciler struct {
	// Client reads from the cache and writes the pod's condition. Live reads from the API server itself.
	Client client.Client
	Live   client.Reader
	// Rights decides under which licences a pod runs.
	Rights Snapshots
	// Audit gets an entry for each pod and licence.
	Audit AuditLog
	// Events gets an Event on the pod, the licence and the grant.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
}

// SetupWithManager registers the controller for pods whose spec is written, and for licences and grants once the
// snapshot takes account of them: a pod's event may come before that of the grant which admitted it.
func (r *PodReconciler) SetupWithManager(mgr ctrl.Manager) error {
	written := predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return true },
		UpdateFunc:  specWritten,
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(written)).
		WatchesRawSource(source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.Rights.Subscribe(func(changed client.Object) {
				for _, request := range r.podsConcerned(ctx, changed) {
					queue.Add(request)
				}
			})
			return nil
		})).
		WithOptions(controller.Options{MaxConcurrentReconciles: podWorkers}).
		Complete(r)
}

// podsConcerned lists the pods that have not been logged in the namespaces where a licence or grant counts.
func (r *PodReconciler) podsConcerned(ctx context.Context, changed client.Object) []reconcile.Request {
	namespaces := map[string]bool{}
	switch o := changed.(type) {
	case *v1alpha1.ModelGrant:
		namespaces[o.Namespace] = true
	case *v1alpha1.ModelLicense:
		var grants v1alpha1.ModelGrantList
		if err := r.Client.List(ctx, &grants, client.MatchingFields{indexGrantLicense: o.Name}, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list the grants of a licence", "license", o.Name)
		}
		for i := range grants.Items {
			namespaces[grants.Items[i].Namespace] = true
		}
	}
	var requests []reconcile.Request
	for namespace := range namespaces {
		var pods corev1.PodList
		if err := r.Client.List(ctx, &pods, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list the pods of a namespace", "namespace", namespace)
		}
		for i := range pods.Items {
			if !isLogged(&pods.Items[i]) {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
			}
		}
	}
	return requests
}

// specWritten leaves out the kubelet's many status updates, where the API server counts a pod's generations: since 1.33.
func specWritten(e event.UpdateEvent) bool {
	return e.ObjectNew.GetGeneration() == 0 || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration()
}

// isLogged says whether anything was logged for a pod.
func isLogged(pod *corev1.Pod) bool { return loggedMarks(pod) != "" }

// Reconcile logs one pod, if it runs under licences and not all of that has been logged. What the cache shows as not
// logged is read live first: the cache may not yet show the mark that was just set.
func (r *PodReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	snapshot, synced := r.Rights.Snapshot()
	if !synced {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if !snapshot.GovernsAnything() {
		return ctrl.Result{}, nil
	}
	for _, live := range []bool{false, true} {
		var pod corev1.Pod
		if err := r.reader(live).Get(ctx, req.NamespacedName, &pod); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
		if err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		unlogged, all := r.admissions(&pod, labels, snapshot)
		if len(unlogged) == 0 {
			return ctrl.Result{}, nil
		}
		if live {
			return ctrl.Result{}, r.log(ctx, &pod, unlogged, all)
		}
	}
	return ctrl.Result{}, nil
}

func (r *PodReconciler) reader(live bool) client.Reader {
	if live {
		return r.Live
	}
	return r.Client
}

// admissions lists under what a pod runs, and what of that has not been logged.
func (r *PodReconciler) admissions(pod *corev1.Pod, namespaceLabels map[string]string, snapshot *entitlement.Snapshot) (unlogged, all []admission) {
	decided := entitlement.DecidePod(entitlement.Pod{
		Namespace: pod.Namespace, NamespaceLabels: namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec,
	}, snapshot, r.Clock.Now())
	for _, use := range decided.Licenses() {
		a := admissionOf(pod, use)
		all = append(all, a)
		if !strings.Contains(loggedMarks(pod), a.mark) {
			unlogged = append(unlogged, a)
		}
	}
	return unlogged, all
}

// log makes the entries durable, then says so on the pod, then tells people.
func (r *PodReconciler) log(ctx context.Context, pod *corev1.Pod, unlogged, all []admission) error {
	appendCtx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for _, a := range unlogged {
		if err := appendEntry(appendCtx, r.Audit, a.entry); err != nil {
			return err
		}
	}
	if err := r.markLogged(ctx, pod, all); err != nil {
		return err
	}
	for _, a := range unlogged {
		license, grant := a.use.License, a.use.Grant
		admittedEvent(r.Events, pod, license, "admitted under "+a.note)
		admittedEvent(r.Events, license, pod, fmt.Sprintf("pod %s/%s admitted by grant %s", pod.Namespace, pod.Name, grant.Name))
		admittedEvent(r.Events, grant, pod, fmt.Sprintf("pod %s admitted under licence %s", pod.Name, license.Name))
	}
	return nil
}

func (r *PodReconciler) markLogged(ctx context.Context, pod *corev1.Pod, all []admission) error {
	before := pod.DeepCopy()
	before.UID = "" // so that the patch names the UID, and is refused for a later pod of the same name
	condition := licensedCondition(all, r.Clock.Now())
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == condition.Type })
	if i < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, condition)
	} else {
		condition.LastTransitionTime = pod.Status.Conditions[i].LastTransitionTime
		pod.Status.Conditions[i] = condition
	}
	err := r.Client.Status().Patch(ctx, pod, client.StrategicMergeFrom(before))
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("setting condition %s of pod %s/%s: %w", v1alpha1.PodConditionLicensed, pod.Namespace, pod.Name, err)
	}
	return nil
}
