package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// PodReconciler writes an audit entry for each pod that was admitted under a licence. It does so from the stored pod,
// since quota and other webhooks can still refuse a pod that ours let pass. The pod's condition
// modelrights.dev/Licensed says that the entry is there.
type PodReconciler struct {
	// Client reads from the cache and writes the pod's condition.
	Client client.Client
	// Rights decides under which licences a pod runs.
	Rights Snapshots
	// Audit gets an entry for each pod and licence.
	Audit AuditLog
	// Events gets an Event on the pod, the licence and the grant.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
}

// SetupWithManager registers the controller for pods that have not been logged, and for licences and grants once the
// snapshot takes account of them: a pod's event may come before that of the grant which admitted it.
func (r *PodReconciler) SetupWithManager(mgr ctrl.Manager) error {
	unlogged := predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return !isLogged(e.Object) },
		UpdateFunc:  func(e event.UpdateEvent) bool { return specWritten(e) && !isLogged(e.ObjectNew) },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(unlogged)).
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

func isLogged(o client.Object) bool {
	pod, ok := o.(*corev1.Pod)
	return ok && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == v1alpha1.PodConditionLicensed
	})
}

// Reconcile logs one pod, if it runs under a licence and has not been logged.
func (r *PodReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var pod corev1.Pod
	if err := r.Client.Get(ctx, req.NamespacedName, &pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if isLogged(&pod) {
		return ctrl.Result{}, nil
	}
	snapshot, synced := r.Rights.Snapshot()
	if !synced {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if !snapshot.GovernsAnything() {
		return ctrl.Result{}, nil
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	decided := entitlement.DecidePod(entitlement.Pod{
		Namespace: pod.Namespace, NamespaceLabels: labels, Labels: pod.Labels, Spec: &pod.Spec,
	}, snapshot, r.Clock.Now())
	licenses := decided.Licenses()
	if len(licenses) == 0 {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.log(ctx, &pod, licenses)
}

// log makes the entries durable, then says so on the pod, then tells people.
func (r *PodReconciler) log(ctx context.Context, pod *corev1.Pod, licenses []entitlement.LicenseUse) error {
	appendCtx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	notes := make([]string, len(licenses))
	for i, l := range licenses {
		notes[i] = fmt.Sprintf("licence %s of %s by grant %s", l.License.Name, l.License.Spec.Licensor, l.Grant.Name)
		if err := appendEntry(appendCtx, r.Audit, admittedEntry(pod, l)); err != nil {
			return err
		}
	}
	if err := r.markLogged(ctx, pod, strings.Join(notes, ", ")); err != nil {
		return err
	}
	for i, l := range licenses {
		admittedEvent(r.Events, pod, l.License, "admitted under "+notes[i])
		admittedEvent(r.Events, l.License, pod, fmt.Sprintf("pod %s/%s admitted by grant %s", pod.Namespace, pod.Name, l.Grant.Name))
		admittedEvent(r.Events, l.Grant, pod, fmt.Sprintf("pod %s admitted under licence %s", pod.Name, l.License.Name))
	}
	return nil
}

func (r *PodReconciler) markLogged(ctx context.Context, pod *corev1.Pod, message string) error {
	before := pod.DeepCopy()
	before.UID = "" // so that the patch names the UID, and is refused for a later pod of the same name
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type:               v1alpha1.PodConditionLicensed,
		Status:             corev1.ConditionTrue,
		Reason:             string(v1alpha1.ReasonEntitled),
		Message:            bounded(message),
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	})
	err := r.Client.Status().Patch(ctx, pod, client.StrategicMergeFrom(before))
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("setting condition %s of pod %s/%s: %w", v1alpha1.PodConditionLicensed, pod.Namespace, pod.Name, err)
	}
	return nil
}

func admittedEntry(pod *corev1.Pod, l entitlement.LicenseUse) audit.Entry {
	return audit.Entry{
		Type:           audit.Admitted,
		Namespace:      pod.Namespace,
		Pod:            audit.ObjectOf(pod),
		Owner:          audit.OwnerOf(pod),
		ServiceAccount: pod.Spec.ServiceAccountName,
		License:        audit.ObjectOf(l.License),
		Grant:          audit.ObjectOf(l.Grant),
		Images:         l.Images,
		Reason:         v1alpha1.ReasonEntitled,
	}
}
