package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/registry"
	"modelrights.dev/modelrights/internal/rights"
)

// foundWorld is an API server without webhooks, so that every pod gets past admission, and operators that find them.
type foundWorld struct {
	operatorWorld
	// index is what operators know of licensed images, layers what a registry says of others.
	index  *copies.Index
	layers *fakeLayers
	// imageVolumes says that the API server takes image volumes, and their digests in status.
	imageVolumes bool
}

// fakeLayers is a registry that knows some images.
type fakeLayers struct {
	mu     sync.Mutex
	images map[string][]copies.Manifest
	asked  map[string]int
}

func (f *fakeLayers) Layers(_ context.Context, image string) ([]copies.Manifest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[image]++
	if manifests, ok := f.images[image]; ok {
		return manifests, nil
	}
	return nil, fmt.Errorf("image %s: %w", image, registry.ErrNotAllowed)
}

func (f *fakeLayers) has(image string, manifests ...copies.Manifest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[image] = manifests
}

// times is how often an image was asked for.
func (f *fakeLayers) times(image string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[image]
}

func newFoundWorld(ctx context.Context) *foundWorld {
	GinkgoHelper()
	w := &foundWorld{index: &copies.Index{}, layers: &fakeLayers{images: map[string][]copies.Manifest{}, asked: map[string]int{}}}
	w.imageVolumes = (&admission{config: cfg}).minor() >= imageVolumesSince
	w.operatorWorld = newOperatorWorld(ctx, func(env *envtest.Environment) {
		if w.imageVolumes {
			env.ControlPlane.GetAPIServer().Configure().Set("feature-gates", "ImageVolumeWithDigest=true")
		}
	})
	DeferCleanup(w.stopAll)
	return w
}

// operator runs the controllers that find pods, until stop is called or the specs are over. Rights may be replaced.
func (w *foundWorld) operator(ctx context.Context, identity string, replace ...func(*rights.Store) controllers.Snapshots) (stop func()) {
	GinkgoHelper()
	return w.run(ctx, identity, func(o *operatorParts) {
		o.addPods()
		tracker := &controllers.CopyTracker{}
		Expect((&controllers.CopyReconciler{
			Client: o.GetClient(), Live: o.GetAPIReader(), Rights: o.rights, Index: w.index, Layers: w.layers, Tracker: tracker,
			Audit: o.log, Events: o.events, Clock: clock.RealClock{}, Protected: []string{"kube-system", operatorNamespace},
		}).SetupWithManager(o)).To(Succeed())
		Expect((&controllers.CopyStatusReconciler{Client: o.GetClient(), Tracker: tracker, Index: w.index, Clock: clock.RealClock{}}).SetupWithManager(o)).To(Succeed())
	}, replace...)
}

// staleRights is an operator's view of licences and grants that lags behind the API server.
type staleRights struct {
	*rights.Store
	client client.Client
	known  atomic.Pointer[entitlement.Snapshot]
}

func (s *staleRights) Snapshot() (*entitlement.Snapshot, bool) { return s.known.Load(), true }

// Live is what rights.Store makes of the same view: the namespace's grants and the licences that they name are read.
func (s *staleRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	var grants v1alpha1.ModelGrantList
	if err := s.client.List(ctx, &grants, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for i := range grants.Items {
		g, license := &grants.Items[i], &v1alpha1.ModelLicense{}
		if err := s.client.Get(ctx, client.ObjectKey{Name: g.Spec.LicenseName}, license); err != nil {
			return nil, err
		}
		changes.Grants[entitlement.GrantKey{Namespace: namespace, Name: g.Name}], changes.Licenses[license.Name] = g, license
	}
	return s.known.Load().Apply(changes), nil
}

// withoutGrants is a snapshot of licences alone.
func withoutGrants(licenses ...*v1alpha1.ModelLicense) *entitlement.Snapshot {
	GinkgoHelper()
	s, err := entitlement.New([]string{"registry.example.com/governed/**"})
	Expect(err).NotTo(HaveOccurred())
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}}
	for _, l := range licenses {
		changes.Licenses[l.Name] = l
	}
	return s.Apply(changes)
}

// as is a client of another user.
func (w *foundWorld) as(user string, groups ...string) client.Client {
	GinkgoHelper()
	impersonating := rest.CopyConfig(w.config)
	impersonating.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	c, err := client.New(impersonating, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
	return c
}

// runs has a node report what a pod's first container runs.
func (w *foundWorld) runs(ctx context.Context, pod *corev1.Pod, imageID string) {
	GinkgoHelper()
	before := client.StrategicMergeFrom(pod.DeepCopy())
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, ImageID: imageID,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	Expect(w.client.Status().Patch(ctx, pod, before)).To(Succeed())
}

// digestOf is a digest that stands for some content.
func digestOf(parts ...string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(parts, "/"))))
}
