package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/keys"
)

const (
	// retryKeys is how soon a key source that could not be asked is asked again.
	retryKeys = 30 * time.Second

	// retryCoverage is how soon it is asked again what the webhook configurations cover, where that cannot be told.
	retryCoverage = time.Second

	// objectWorkers is how many licences, and how many grants, wait at once for their entries to become durable; those
	// that wait together share a record.
	objectWorkers = 32
)

// LicenseReconciler keeps the status of ModelLicenses and writes their changes into the audit log.
type LicenseReconciler struct {
	// Client reads from the cache and writes status.
	Client client.Client
	// Keys says whether a licence's keys are to be had. What it hands out is wiped at once.
	Keys keys.Source
	// Coverage says whether the API server sends pods that use a licence. Optional: without it, AdmissionReady is not said.
	Coverage Coverage
	// Namespace is the operator's, where key Secrets are.
	Namespace string
	// Audit gets an entry for each change of a licence's spec.
	Audit AuditLog
	// Events gets an Event for each change of readiness.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock

	history history
	writes  ownWrites
	grants  readyGrants
	said    sync.Map // of licences, by name: saidOfCoverage
}

// saidOfCoverage is what was last said of a licence, whether it is in the cache by now or not.
type saidOfCoverage struct {
	uid        types.UID
	generation int64
	covered    bool
}

// SetupWithManager registers the controller: for licences, their grants, and the Secrets of their keys.
func (r *LicenseReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ModelLicense{}, indexLicenseSecret, indexer(func(l *v1alpha1.ModelLicense) []string {
		var names []string
		for _, key := range l.Spec.Keys {
			names = append(names, key.SecretRef.Name)
		}
		return names
	}))
	if err != nil {
		return fmt.Errorf("indexing licences by Secret: %w", err)
	}
	own := &ownObjects[*v1alpha1.ModelLicense]{
		history: &r.history, writes: &r.writes, describe: licenseIncarnation,
		observed: func(l *v1alpha1.ModelLicense) int64 { return l.Status.ObservedGeneration },
	}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return ctrl.NewControllerManagedBy(mgr).Named("modellicense").
		Watches(&v1alpha1.ModelLicense{}, own.handler()).
		Watches(&v1alpha1.ModelGrant{}, r.grants.handler()).
		WatchesMetadata(secret, handler.EnqueueRequestsFromMapFunc(r.licensesOfSecret)).
		Watches(&admissionregistrationv1.ValidatingWebhookConfiguration{}, handler.EnqueueRequestsFromMapFunc(r.licensesCoveredOtherwise)).
		Watches(&admissionregistrationv1.MutatingWebhookConfiguration{}, handler.EnqueueRequestsFromMapFunc(r.licensesCoveredOtherwise)).
		WithOptions(controller.Options{MaxConcurrentReconciles: objectWorkers}).
		Complete(r)
}

func (r *LicenseReconciler) licensesOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	if secret.GetNamespace() != r.Namespace {
		return nil
	}
	return licensesBy(ctx, r.Client, indexLicenseSecret, secret.GetName())
}

// licensesCoveredOtherwise lists the licences of which the status says something else than what the webhook configurations
// now cover.
func (r *LicenseReconciler) licensesCoveredOtherwise(ctx context.Context, configuration client.Object) []reconcile.Request {
	if r.Coverage == nil || configuration.GetName() != admissionconfig.Pods {
		return nil
	}
	var licenses v1alpha1.ModelLicenseList
	if err := r.Client.List(ctx, &licenses, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the licences that the webhook configurations cover")
		return nil
	}
	var requests []reconcile.Request
	for i := range licenses.Items {
		license := &licenses.Items[i]
		covered, _, err := r.Coverage.Covers(ctx, license)
		if said, ok := r.said.Load(license.Name); err != nil || !ok || said != (saidOfCoverage{license.UID, license.Generation, covered}) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(license)})
		}
	}
	return requests
}

// Reconcile brings the status of one licence up to date.
func (r *LicenseReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var license v1alpha1.ModelLicense
	if err := r.Client.Get(ctx, req.NamespacedName, &license); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		r.said.Delete(req.Name)
		r.writes.forget(req.NamespacedName)
		return ctrl.Result{}, r.history.deleted(ctx, r.Audit, req.NamespacedName, licenseEntry)
	}
	now, err := licenseIncarnation(&license)
	if err != nil {
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	if err := r.history.seen(ctx, r.Audit, now, license.Status.ObservedGeneration, licenseEntry); err != nil {
		return ctrl.Result{}, err
	}

	if r.writes.behind(&license) {
		return ctrl.Result{RequeueAfter: retryBehind}, nil
	}

	facts := licenseFacts{license: &license, now: r.Clock.Now()}
	for _, key := range license.Spec.Keys {
		material, err := r.Keys.Fetch(ctx, &license, key.Name)
		if err != nil {
			facts.keyErrors = append(facts.keyErrors, err)
			continue
		}
		material.Wipe()
	}
	facts.readyGrants = r.grants.of(license.Name)

	before, _ := r.said.Load(license.Name)
	facts.admission = r.admission(ctx, &license)
	after, _ := r.said.Load(license.Name)

	status, until := licenseStatus(facts)
	result := ctrl.Result{}
	if !until.IsZero() {
		result.RequeueAfter = until.Sub(facts.now)
	}
	if meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling) && (result.RequeueAfter == 0 || result.RequeueAfter > retryKeys) {
		result.RequeueAfter = retryKeys
	}
	if facts.admission != nil && facts.admission.err != nil {
		result.RequeueAfter = retryCoverage
	}
	// Where coverage changes twice in a moment, the cache may still hold the status of before.
	if equality.Semantic.DeepEqual(status, license.Status) && (before == nil || before == after) {
		return result, nil
	}
	changed, expiring := readyChanged(license.Status.Conditions, status.Conditions), expiryChanged(license.Status.Conditions, status.Conditions)
	license.Status = status
	if err := applyLicenseStatus(ctx, r.Client, &license, ownerReadiness, status); err != nil {
		return ctrl.Result{}, err
	}
	r.writes.wrote(&license)
	if changed {
		readinessEvent(r.Events, &license, status.Conditions)
	}
	if expiring {
		expiryEvent(r.Events, &license, status.Conditions)
	}
	return result, nil
}

// admission says whether pods that use the licence are sent. What it says is remembered before it asks once more: so
// either this or licensesCoveredOtherwise takes notice of a change in between.
func (r *LicenseReconciler) admission(ctx context.Context, license *v1alpha1.ModelLicense) *admissionFacts {
	if r.Coverage == nil {
		return nil
	}
	facts := &admissionFacts{}
	facts.covered, facts.why, facts.err = r.Coverage.Covers(ctx, license)
	for {
		r.said.Store(license.Name, saidOfCoverage{license.UID, license.Generation, facts.covered})
		again := &admissionFacts{}
		again.covered, again.why, again.err = r.Coverage.Covers(ctx, license)
		if again.covered == facts.covered {
			return again
		}
		facts = again
	}
}
