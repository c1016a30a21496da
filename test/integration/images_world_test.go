package integration

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/keys"
	registryclient "modelrights.dev/modelrights/internal/registry"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/test/builders"
)

// imageWorld is an API server with the controllers of licences and images, and a registry.
type imageWorld struct {
	client   client.Client
	registry *testRegistry
	store    *rights.Store
	index    *copies.Index
	layers   *registryclient.Resolver
}

func newImageWorld(ctx SpecContext) *imageWorld {
	GinkgoHelper()
	env := &envtest.Environment{}
	config := startEnvironment(env)
	DeferCleanup(env.Stop)
	w := &imageWorld{registry: newTestRegistry(), index: &copies.Index{}}
	DeferCleanup(w.registry.server.Close)
	var err error
	w.client, err = client.New(config, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
	for _, namespace := range []string{operatorNamespace, "ml-prod"} {
		Expect(w.client.Create(ctx, builders.Namespace(namespace).Obj())).To(Succeed())
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  testScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Logger:  GinkgoLogr,
		// Other specs of this process run controllers of the same names.
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Node{}: {Transform: controllers.TrimNode}}},
	})
	Expect(err).NotTo(HaveOccurred())
	running, stop := context.WithCancel(context.Background())
	w.store, err = rights.NewStore(nil, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	waitForSync, err := w.store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	records, err := audit.New(audit.Options{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Identity: "test", Linger: 10 * time.Millisecond})
	Expect(err).NotTo(HaveOccurred())
	Expect(mgr.Add(records)).To(Succeed())

	recorder, now := mgr.GetEventRecorder("modelrights-operator"), clock.RealClock{}
	Expect((&controllers.GrantReconciler{Client: mgr.GetClient(), Audit: records, Events: recorder, Clock: now}).SetupWithManager(running, mgr)).To(Succeed())
	Expect((&controllers.LicenseReconciler{
		Client: mgr.GetClient(), Keys: keys.NewSecretSource(mgr.GetAPIReader(), operatorNamespace), Namespace: operatorNamespace,
		Audit: records, Events: recorder, Clock: now,
	}).SetupWithManager(running, mgr)).To(Succeed())
	reads, err := registryclient.NewClient(registryclient.Options{Rate: 1000})
	Expect(err).NotTo(HaveOccurred())
	w.layers, err = registryclient.NewResolver(reads, nil)
	Expect(err).NotTo(HaveOccurred())
	Expect((&controllers.ImageReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: operatorNamespace, Registry: reads, Accesses: w.layers,
		Index: w.index, Events: recorder, Clock: now, Interval: time.Second,
	}).SetupWithManager(running, mgr)).To(Succeed())
	Expect((&controllers.DistributionReconciler{Client: mgr.GetClient(), Settle: 10 * time.Millisecond}).SetupWithManager(mgr)).To(Succeed())

	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	DeferCleanup(func() {
		stop()
		Eventually(ended).Should(Receive(BeNil()))
	})
	Expect(waitForSync(ctx)).To(Succeed())
	return w
}

// testRegistry is a registry on loopback that can be away, and whose repositories below private/ want credentials.
type testRegistry struct {
	server *httptest.Server
	host   string
	away   atomic.Bool
}

const registryUser, registryPassword = "puller", "hunter2"

func newTestRegistry() *testRegistry {
	r := &testRegistry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		user, password, _ := request.BasicAuth()
		switch {
		case r.away.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case request.Method != http.MethodGet && request.Method != http.MethodHead:
			inner.ServeHTTP(w, request)
		case request.URL.Path == "/v2/" && user == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(request.URL.Path, "/v2/private/") && (user != registryUser || password != registryPassword):
			w.WriteHeader(http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, request)
		}
	}))
	r.host = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// push writes an image or an index, and returns its digest.
func (r *testRegistry) push(path, tag string, what remote.Taggable) string {
	GinkgoHelper()
	repository, err := name.NewRepository(r.host + "/" + path)
	Expect(err).NotTo(HaveOccurred())
	auth := remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword})
	switch what := what.(type) {
	case v1.ImageIndex:
		Expect(remote.WriteIndex(repository.Tag(tag), what, auth)).To(Succeed())
		digest, err := what.Digest()
		Expect(err).NotTo(HaveOccurred())
		return digest.String()
	case v1.Image:
		Expect(remote.Write(repository.Tag(tag), what, auth)).To(Succeed())
		digest, err := what.Digest()
		Expect(err).NotTo(HaveOccurred())
		return digest.String()
	}
	Fail("neither an image nor an index")
	return ""
}

// modelImage is an image of two layers with content.
func modelImage() v1.Image {
	GinkgoHelper()
	image, err := random.Image(100_000, 2)
	Expect(err).NotTo(HaveOccurred())
	return image
}

// builtFrom is an image with a layer of its own on top.
func builtFrom(base v1.Image) v1.Image {
	GinkgoHelper()
	layer, err := random.Layer(100_000, "application/vnd.oci.image.layer.v1.tar+gzip")
	Expect(err).NotTo(HaveOccurred())
	image, err := mutate.AppendLayers(base, layer)
	Expect(err).NotTo(HaveOccurred())
	return image
}

func indexOf(images ...v1.Image) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for i, image := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]}},
		})
	}
	return index
}

func pullSecret(namespace, name, host, user, password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths": {"` + host + `": {"username": "` + user + `", "password": "` + password + `"}}}`},
	}
}
