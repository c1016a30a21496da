package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/registry"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/test/builders"
)

// foundWorld is an API server without webhooks, so that every pod gets past admission, and operators that find them.
type foundWorld struct {
	config *rest.Config
	client client.Client
	// index is what operators know of licensed images, layers what a registry says of others.
	index  *copies.Index
	layers *fakeLayers
	stops  []func()
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
	env := &envtest.Environment{}
	imageVolumes := (&admission{config: cfg}).minor() >= imageVolumesSince
	if imageVolumes {
		env.ControlPlane.GetAPIServer().Configure().Set("feature-gates", "ImageVolumeWithDigest=true")
	}
	w := &foundWorld{imageVolumes: imageVolumes, config: startEnvironment(env), index: &copies.Index{}, layers: &fakeLayers{images: map[string][]copies.Manifest{}, asked: map[string]int{}}}
	DeferCleanup(env.Stop)
	DeferCleanup(func() {
		for _, stop := range w.stops {
			stop()
		}
	})
	var err error
	w.client, err = client.New(w.config, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
	Expect(w.client.Create(ctx, builders.Namespace(operatorNamespace).Obj())).To(Succeed())
	return w
}

// operator runs the controllers that find pods, until stop is called or the specs are over. Rights may be replaced.
func (w *foundWorld) operator(ctx context.Context, identity string, replace ...func(*rights.Store) controllers.Snapshots) (stop func()) {
	GinkgoHelper()
	mgr, err := ctrl.NewManager(w.config, ctrl.Options{
		Scheme:     testScheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Logger:     GinkgoLogr,
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: controllers.TrimPod}}},
	})
	Expect(err).NotTo(HaveOccurred())
	running, cancel := context.WithCancel(context.Background())
	log, err := audit.New(audit.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Identity: identity, Linger: 10 * time.Millisecond})
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(log)).To(Succeed())
	store, err := rights.NewStore([]string{"registry.example.com/governed/**"}, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	waitForSync, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	var snapshots controllers.Snapshots = store
	for _, f := range replace {
		snapshots = f(store)
	}
	recorder, now := mgr.GetEventRecorder("modelrights-operator"), clock.RealClock{}
	allocator := newAllocator(running, mgr, snapshots)
	Expect((&controllers.PodReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: snapshots, Audit: log, Events: recorder, Clock: now, Seats: allocator,
	}).SetupWithManager(mgr)).To(Succeed())
	tracker := &controllers.CopyTracker{}
	Expect((&controllers.CopyReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: snapshots, Index: w.index, Layers: w.layers, Tracker: tracker,
		Audit: log, Events: recorder, Clock: now, Protected: []string{"kube-system", operatorNamespace},
	}).SetupWithManager(mgr)).To(Succeed())
	Expect((&controllers.CopyStatusReconciler{Client: mgr.GetClient(), Tracker: tracker, Index: w.index, Clock: now}).SetupWithManager(mgr)).To(Succeed())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	stop = sync.OnceFunc(func() {
		cancel()
		Eventually(ended).Should(Receive(BeNil()))
	})
	w.stops = append(w.stops, stop) // at the end of all specs, where a spec starts another
	Expect(waitForSync(ctx)).To(Succeed())
	return stop
}

// newAllocator returns an allocator that a manager's pod controller can run, and fills its view of the ledgers.
func newAllocator(running context.Context, mgr ctrl.Manager, snapshots controllers.Snapshots) *controllers.SeatAllocator {
	GinkgoHelper()
	view := seatbook.NewView()
	waitForSync, err := view.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(manager.RunnableFunc(waitForSync))).To(Succeed())
	return &controllers.SeatAllocator{
		Queue: controllers.NewSeatQueue(), Ledgers: view, Rights: snapshots, Pods: mgr.GetClient(), Clock: clock.RealClock{},
		Book: seatbook.New(seatbook.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader()}),
	}
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

func (w *foundWorld) create(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, o := range objects {
		Expect(w.client.Create(ctx, o)).To(Succeed())
	}
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

// entries lists the types of the entries about a pod, in order. Entries of one ID are told once.
func (w *foundWorld) entries(ctx context.Context, pod *corev1.Pod) []audit.Type {
	GinkgoHelper()
	types := []audit.Type{}
	seen := map[string]bool{}
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Pod.UID == string(pod.UID) && !seen[e.Entry.ID] {
			types = append(types, e.Entry.Type)
		}
		seen[e.Entry.ID] = true
	}
	return types
}

// all lists the entries of a type in a namespace.
func (w *foundWorld) all(ctx context.Context, kind audit.Type, namespace string) []audit.Entry {
	GinkgoHelper()
	var found []audit.Entry
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Type == kind && e.Entry.Namespace == namespace {
			found = append(found, e.Entry)
		}
	}
	return found
}

// condition reads one of a pod's conditions, as STATUS REASON; empty where there is none.
func (w *foundWorld) condition(ctx context.Context, pod *corev1.Pod, kind corev1.PodConditionType) string {
	GinkgoHelper()
	Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
	return ""
}

func (w *foundWorld) licensed(ctx context.Context, pod *corev1.Pod) func() string {
	return func() string { return w.condition(ctx, pod, v1alpha1.PodConditionLicensed) }
}

func (w *foundWorld) copied(ctx context.Context, pod *corev1.Pod) func() string {
	return func() string { return w.condition(ctx, pod, v1alpha1.PodConditionCopy) }
}

// told lists the Events about an object, as REASON NOTE.
func (w *foundWorld) told(ctx context.Context, kind, namespace, name string) func() []string {
	return func() []string {
		GinkgoHelper()
		var list eventsv1.EventList
		Expect(w.client.List(ctx, &list)).To(Succeed())
		var notes []string
		for _, e := range list.Items {
			if e.Regarding.Kind == kind && e.Regarding.Namespace == namespace && e.Regarding.Name == name {
				notes = append(notes, e.Reason+" "+e.Note)
			}
		}
		return notes
	}
}

// digestOf is a digest that stands for some content.
func digestOf(parts ...string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(parts, "/"))))
}
