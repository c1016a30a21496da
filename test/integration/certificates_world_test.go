package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/servingcert"
	"modelrights.dev/modelrights/test/builders"
)

const (
	certificateDay  = 24 * time.Hour
	certificateStep = 30 * certificateDay
	webhookName     = "modelrights-webhook"
	keyServiceName  = "modelrights-keyservice"
	webhookObject   = "modelrights-pods"
)

// steeredClock tells the time that a spec sets. Its timers go by real time, and do not notice: so do a process' when
// somebody sets the clock.
type steeredClock struct{ *clocktesting.FakeClock }

// NewTicker ticks often, whatever the interval.
func (steeredClock) NewTicker(time.Duration) clock.Ticker {
	return clock.RealClock{}.NewTicker(200 * time.Millisecond)
}

// certificateWorld is a cluster in which replicas of the operator serve TLS, while the API server (by the live caBundle)
// and a node (by a copy of the ConfigMap that it refreshes late) call them all the while. Time is the fake clock's.
type certificateWorld struct {
	client   client.Client
	clock    steeredClock
	policy   servingcert.Policy
	external bool

	// between is held while a call is under way: between two calls a node is refreshed, and time goes by.
	between sync.RWMutex

	mu       sync.Mutex
	replicas []*certificateReplica
	node     []byte
	calls    atomic.Int64
	failures []string
}

// certificateReplica is what a replica of the operator has to do with certificates.
type certificateReplica struct {
	keeper  *servingcert.Keeper
	address string
	// cutOff ends everything but the serving.
	cutOff context.CancelFunc
}

func newCertificateWorld(ctx context.Context, external bool) *certificateWorld {
	GinkgoHelper()
	w := &certificateWorld{
		client: k8sClient, external: external,
		clock:  steeredClock{clocktesting.NewFakeClock(time.Now().Truncate(time.Second))},
		policy: servingcert.DefaultPolicy(servingcert.Names{Namespace: operatorNamespace, Services: []string{webhookName, keyServiceName}}),
	}
	for _, namespace := range []string{operatorNamespace, nodeNamespace} {
		Expect(client.IgnoreAlreadyExists(w.client.Create(ctx, builders.Namespace(namespace).Obj()))).To(Succeed())
	}
	DeferCleanup(w.clear)
	Expect(w.client.Create(ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhookObject},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validate.pods.modelrights.dev", AdmissionReviewVersions: []string{"v1"},
			SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: operatorNamespace, Name: webhookName},
			},
		}},
	})).To(Succeed())
	return w
}

// clear removes what the spec leaves on the API server that specs share.
func (w *certificateWorld) clear(ctx context.Context) {
	GinkgoHelper()
	leftovers := []client.Object{&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookObject}}}
	for _, namespace := range []string{operatorNamespace, nodeNamespace} {
		leftovers = append(leftovers,
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: servingcert.SecretName}},
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: servingcert.BundleName}})
	}
	for _, o := range leftovers {
		Expect(client.IgnoreNotFound(w.client.Delete(ctx, o))).To(Succeed())
	}
}

// replica starts a replica. The first one leads.
func (w *certificateWorld) replica(ctx context.Context) *certificateReplica {
	GinkgoHelper()
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{operatorNamespace: {}}, Transform: servingcert.TrimSecret},
			&corev1.ConfigMap{}: {
				Namespaces: map[string]cache.Config{operatorNamespace: {}, nodeNamespace: {}},
				Field:      fields.OneTermEqualSelector(metav1.ObjectNameField, servingcert.BundleName),
			},
		}},
	})
	Expect(err).NotTo(HaveOccurred())
	r := &certificateReplica{keeper: servingcert.NewKeeper(servingcert.KeeperOptions{Policy: w.policy, Clock: w.clock, Log: GinkgoLogr})}
	r.keeper.OnChange(func() { w.inject(r.keeper.CABundle()) })
	Expect(r.keeper.Watch(ctx, mgr.GetCache())).To(Succeed())
	if w.external {
		Expect(r.keeper.WatchCarried(ctx, mgr.GetCache())).To(Succeed())
	} else {
		consumers := &controllers.CAConsumers{Reader: mgr.GetAPIReader(), Validating: []string{webhookObject}, NodeNamespace: nodeNamespace}
		Expect(mgr.Add(servingcert.NewAuthority(servingcert.AuthorityOptions{
			Policy: w.policy, Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Keeper: r.keeper,
			Published: consumers.Trust, Clock: w.clock, Log: GinkgoLogr,
		}))).To(Succeed())
	}
	if len(w.everyReplica()) == 0 {
		bundles := &controllers.CAReconciler{Client: mgr.GetClient(), NodeNamespace: nodeNamespace, Policy: w.policy, External: w.external, Clock: w.clock}
		Expect(bundles.SetupWithManager(mgr)).To(Succeed())
	}
	running, cutOff := context.WithCancel(context.Background())
	r.cutOff = cutOff
	done := make(chan error, 1)
	go func() { done <- mgr.Start(running) }()
	DeferCleanup(func() {
		cutOff()
		Eventually(done).Should(Receive(BeNil()))
	})
	Eventually(func() error { return r.keeper.Ready(nil) }).Should(Succeed())
	w.serve(ctx, r)
	return r
}

// inject stands for the controller of the webhook configurations.
func (w *certificateWorld) inject(bundle []byte) {
	patch := client.RawPatch("application/strategic-merge-patch+json",
		fmt.Appendf(nil, `{"webhooks":[{"name":"validate.pods.modelrights.dev","clientConfig":{"caBundle":%q}}]}`, base64.StdEncoding.EncodeToString(bundle)))
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookObject}}
	if err := w.client.Patch(context.Background(), configuration, patch); err != nil {
		w.fail("writing the caBundle: %v", err)
	}
}

// serve accepts connections with the replica's certificate, and has both callers call.
func (w *certificateWorld) serve(ctx context.Context, r *certificateReplica) {
	GinkgoHelper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	r.address = listener.Addr().String()
	secure := tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: r.keeper.GetCertificate})
	go func() {
		for {
			connection, err := secure.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go func() {
					_ = connection.(*tls.Conn).HandshakeContext(context.Background()) // what fails is the caller's to tell
					_ = connection.Close()
				}()
			}
		}
	}()
	w.mu.Lock()
	w.replicas = append(w.replicas, r)
	w.mu.Unlock()
	DeferCleanup(listener.Close)
}

func (w *certificateWorld) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) < 20 {
		w.failures = append(w.failures, w.clock.Now().Format(time.RFC3339)+" "+fmt.Sprintf(format, args...))
	}
}

// callAllTheWhile has the API server and the node call every replica, one call after the other, until the spec is over.
func (w *certificateWorld) callAllTheWhile() {
	GinkgoHelper()
	w.refreshNode()
	for name, bundle := range map[string]func() ([]byte, error){webhookName: w.liveBundle, keyServiceName: w.nodeBundle} {
		start(func(ctx context.Context) error {
			for ctx.Err() == nil {
				for _, r := range w.everyReplica() {
					w.callOnce(ctx, r, name, bundle)
				}
			}
			return nil
		})
	}
}

func (w *certificateWorld) callOnce(ctx context.Context, r *certificateReplica, name string, bundle func() ([]byte, error)) {
	w.between.RLock()
	defer w.between.RUnlock()
	if !slices.Contains(w.everyReplica(), r) {
		return
	}
	trusted, err := bundle()
	if err == nil {
		err = w.call(ctx, r.address, name, trusted)
	}
	if err != nil && ctx.Err() == nil {
		w.fail("calling %s: %v", name, err)
	}
	w.calls.Add(1)
}

// call opens one connection, as a client whose clock is the fake one.
func (w *certificateWorld) call(ctx context.Context, address, service string, bundle []byte) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	dialer := &tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, Time: w.clock.Now, ServerName: service + "." + operatorNamespace + ".svc",
	}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

func (w *certificateWorld) liveBundle() ([]byte, error) {
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	if err := w.client.Get(context.Background(), client.ObjectKey{Name: webhookObject}, &configuration); err != nil {
		return nil, err
	}
	return configuration.Webhooks[0].ClientConfig.CABundle, nil
}

// published is the bundle in the ConfigMap of a namespace; empty if there is none.
func (w *certificateWorld) published(namespace string) []byte {
	GinkgoHelper()
	var bundle corev1.ConfigMap
	err := w.client.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: servingcert.BundleName}, &bundle)
	Expect(client.IgnoreNotFound(err)).To(Succeed())
	return []byte(bundle.Data[servingcert.CACertKey])
}

func (w *certificateWorld) nodeBundle() ([]byte, error) { return w.node, nil }

// pass lets time go by.
func (w *certificateWorld) pass(d time.Duration) {
	w.between.Lock()
	defer w.between.Unlock()
	w.clock.SetTime(w.clock.Now().Add(d))
}

// refreshNode is the kubelet's refresh of the volume.
func (w *certificateWorld) refreshNode() {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		var bundle corev1.ConfigMap
		g.Expect(w.client.Get(context.Background(), client.ObjectKey{Namespace: nodeNamespace, Name: servingcert.BundleName}, &bundle)).To(Succeed())
		w.between.Lock()
		defer w.between.Unlock()
		w.node = []byte(bundle.Data[servingcert.CACertKey])
	}).Should(Succeed())
}

func (w *certificateWorld) secret(ctx context.Context) *corev1.Secret {
	GinkgoHelper()
	var secret corev1.Secret
	Expect(w.client.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: servingcert.SecretName}, &secret)).To(Succeed())
	return &secret
}

// leaf is the certificate that a replica serves.
func (r *certificateReplica) leaf() *x509.Certificate {
	GinkgoHelper()
	certificate, err := r.keeper.GetCertificate(nil)
	Expect(err).NotTo(HaveOccurred())
	return certificate.Leaf
}

// issuer identifies the CA that signed what a replica serves.
func (r *certificateReplica) issuer() string {
	GinkgoHelper()
	return hex.EncodeToString(r.leaf().AuthorityKeyId)
}

// cas counts the CAs of a bundle.
func cas(bundle []byte) int { return bytes.Count(bundle, []byte("BEGIN CERTIFICATE")) }

func (w *certificateWorld) everyReplica() []*certificateReplica {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.replicas)
}

// settle waits until every replica serves a leaf by that CA, if it is given, that lasts beyond the next step;
// but for those that cannot.
func (w *certificateWorld) settle(issuer string, except ...*certificateReplica) {
	GinkgoHelper()
	for _, r := range w.everyReplica() {
		if slices.Contains(except, r) {
			continue
		}
		Eventually(func(g Gomega) {
			g.Expect(r.leaf().NotAfter).To(BeTemporally(">", w.clock.Now().Add(certificateStep)))
			if issuer != "" {
				g.Expect(r.issuer()).To(Equal(issuer))
			}
		}).Should(Succeed())
	}
}

// end takes a replica away.
func (w *certificateWorld) end(r *certificateReplica) {
	w.between.Lock()
	defer w.between.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replicas = slices.DeleteFunc(slices.Clone(w.replicas), func(other *certificateReplica) bool { return other == r })
}

// expectNoFailure waits for some more calls and says what failed.
func (w *certificateWorld) expectNoFailure() {
	GinkgoHelper()
	before := w.calls.Load()
	Eventually(w.calls.Load).Should(BeNumerically(">", before+20))
	w.mu.Lock()
	defer w.mu.Unlock()
	Expect(w.failures).To(BeEmpty(), "of %d calls", w.calls.Load())
}

// issue returns what cert-manager writes into the Secret: CA and leaf, and no key of the CA.
func (w *certificateWorld) issue(ctx context.Context) map[string][]byte {
	GinkgoHelper()
	elsewhere := fake.NewClientBuilder().Build()
	issuer := servingcert.NewAuthority(servingcert.AuthorityOptions{
		Policy: w.policy, Reader: elsewhere, Writer: elsewhere, Clock: w.clock, Log: GinkgoLogr,
		Keeper: servingcert.NewKeeper(servingcert.KeeperOptions{Policy: w.policy, Clock: w.clock, Log: GinkgoLogr}),
	})
	Expect(issuer.Ensure(ctx)).To(Succeed())
	var secret corev1.Secret
	Expect(elsewhere.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: servingcert.SecretName}, &secret)).To(Succeed())
	issued := map[string][]byte{}
	for _, entry := range []string{servingcert.CACertKey, servingcert.CertKey, servingcert.PrivateKeyKey} {
		issued[entry] = secret.Data[entry]
	}
	return issued
}
