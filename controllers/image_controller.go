package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/registry"
)

const (
	// imageWorkers is how many licences are resolved at once. The registry client bounds what one host is asked.
	imageWorkers = 16
	// imageTimeout bounds the resolution of one licence. What was read is not asked for again by the next.
	imageTimeout = 2 * time.Minute
	// firstImageRetry is when a licence that could not be resolved is tried again; later twice as long each time, up to
	// the interval.
	firstImageRetry = 15 * time.Second
	// maxMoveEvents bounds the Events about tags that moved, of one resolution.
	maxMoveEvents = 8
)

// ImageReconciler asks registries what the tags and digests of licences stand for: for status.images, by which pods are
// pinned, and for the index by which copies are recognised. Admission and the release of keys never wait for it.
type ImageReconciler struct {
	// Client reads from the cache and applies its part of the status. Live reads pull Secrets from the API server.
	Client client.Client
	Live   client.Reader
	// Namespace is the operator's, where pull Secrets are.
	Namespace string
	// Registry is asked.
	Registry ImageRegistry
	// Accesses is told what may be contacted for each licence.
	Accesses interface {
		Set(license string, access *registry.Access)
	}
	// Index is told the images of each licence.
	Index *copies.Index
	// Events gets an Event for each tag that moved.
	Events events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Interval is how often a licence is resolved, give or take a fifth.
	Interval time.Duration

	mu    sync.Mutex
	known map[string]*knownImages
}

// knownImages is what is remembered of a licence.
type knownImages struct {
	images   map[resolvedKey]resolved
	failures int
}

// SetupWithManager registers the controller: for licences whose spec changes, and the pull Secrets they name.
func (r *ImageReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ModelLicense{}, indexLicensePullSecret, indexer(func(l *v1alpha1.ModelLicense) []string {
		if l.Spec.PullSecretRef == nil {
			return nil
		}
		return []string{l.Spec.PullSecretRef.Name}
	}))
	if err != nil {
		return fmt.Errorf("indexing licences by pull Secret: %w", err)
	}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return ctrl.NewControllerManagedBy(mgr).Named("images").
		For(&v1alpha1.ModelLicense{}, builder.WithPredicates(specUpdates)).
		WatchesMetadata(secret, handler.EnqueueRequestsFromMapFunc(r.licensesOfPullSecret)).
		WithOptions(controller.Options{MaxConcurrentReconciles: imageWorkers}).
		Complete(r)
}

func (r *ImageReconciler) licensesOfPullSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	if secret.GetNamespace() != r.Namespace {
		return nil
	}
	return licensesBy(ctx, r.Client, indexLicensePullSecret, secret.GetName())
}

// Reconcile resolves one licence.
func (r *ImageReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var license v1alpha1.ModelLicense
	if err := r.Client.Get(ctx, req.NamespacedName, &license); err != nil {
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		r.forget(req.Name)
		return ctrl.Result{}, nil
	}
	sources := imageSources(&license.Spec)
	known := r.recall(&license, sources)

	access, err := imageAccess(ctx, r.Live, r.Namespace, &license)
	var invalid *pullSecretError
	switch {
	case errors.As(err, &invalid):
		before := resolution{images: known.images}
		r.Accesses.Set(license.Name, nil)
		r.Index.Set(license.Name, before.licensed(&license.Spec, sources))
		return ctrl.Result{}, r.write(ctx, &license, pullSecretStatus(&license, invalid.text))
	case err != nil:
		return ctrl.Result{}, err
	}
	r.Accesses.Set(license.Name, access)

	asking, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	asked := resolver{registry: r.Registry, access: access, before: known.images}
	found := asked.resolve(asking, sources)
	if err := ctx.Err(); err != nil {
		return ctrl.Result{}, err
	}
	after := r.remember(license.Name, &found)
	r.Index.Set(license.Name, found.licensed(&license.Spec, sources))
	if err := r.write(ctx, &license, imagesStatus(&license, sources, &found)); err != nil {
		return ctrl.Result{}, err
	}
	if len(sources) == 0 {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: r.again(after, found.failed)}, nil
}

// recall returns what is known of a licence: from earlier resolutions or, after a restart, from its status, which does
// not say what images consist of. What the spec does not name any more is left out.
func (r *ImageReconciler) recall(license *v1alpha1.ModelLicense, sources []imageSource) knownImages {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]*knownImages{}
	}
	remembered := r.known[license.Name]
	if remembered == nil {
		remembered = &knownImages{}
	}
	recalled := knownImages{images: map[resolvedKey]resolved{}, failures: remembered.failures}
	for i := range license.Status.Images {
		entry := license.Status.Images[i]
		for s := range sources {
			if sources[s].repository == entry.Repository {
				recalled.images[keyOf(&entry)] = resolved{entry: entry}
			}
		}
	}
	for key, image := range remembered.images {
		if inStatus, ok := recalled.images[key]; ok && inStatus.entry.Digest == image.entry.Digest {
			recalled.images[key] = image
		}
	}
	return recalled
}

// remember keeps what was found, and returns how many resolutions in a row have failed.
func (r *ImageReconciler) remember(license string, found *resolution) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	failures := 0
	if before := r.known[license]; before != nil && len(found.failed) > 0 {
		failures = before.failures
	}
	if len(found.failed) > 0 {
		failures++
	}
	r.known[license] = &knownImages{images: found.images, failures: failures}
	return failures
}

func (r *ImageReconciler) forget(license string) {
	r.mu.Lock()
	delete(r.known, license)
	r.mu.Unlock()
	r.Accesses.Set(license, nil)
	r.Index.Set(license, nil)
}

// write applies the status where it changed, and tells of tags that moved.
func (r *ImageReconciler) write(ctx context.Context, license *v1alpha1.ModelLicense, status v1alpha1.ModelLicenseStatus) error {
	if equality.Semantic.DeepEqual(ownerImages.part(status), ownerImages.part(license.Status)) {
		return nil
	}
	if err := applyLicenseStatus(ctx, r.Client, license, ownerImages, status); err != nil {
		return client.IgnoreNotFound(err)
	}
	moves := moved(license.Status.Images, status.Images)
	for i, move := range moves {
		if i == maxMoveEvents {
			move = fmt.Sprintf("%d more tags stand for other images than before", len(moves)-i)
		}
		r.Events.Eventf(license, nil, corev1.EventTypeWarning, string(v1alpha1.ReasonTagMoved), actionReconcile, "%s", bounded(move))
		if i == maxMoveEvents {
			break
		}
	}
	return nil
}

// again is when to resolve next: after the interval or, after failures, sooner, but not before the registry wants it.
func (r *ImageReconciler) again(failures int, failed []error) time.Duration {
	if failures == 0 {
		return r.Interval - r.Interval/5 + rand.N(2*r.Interval/5+1) //nolint:gosec // Nobody gains by guessing it.
	}
	wait := min(firstImageRetry<<min(failures-1, 10), r.Interval)
	wait += rand.N(wait/5 + 1) //nolint:gosec // Nobody gains by guessing it.
	for _, err := range failed {
		var backoff *registry.BackoffError
		if errors.As(err, &backoff) {
			wait = max(wait, backoff.Until.Sub(r.Clock.Now())+rand.N(time.Second)) //nolint:gosec // Nobody gains by guessing it.
		}
	}
	return wait
}
