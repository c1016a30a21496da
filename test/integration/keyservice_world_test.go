package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice"
	keyclient "modelrights.dev/modelrights/internal/keyservice/client"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

const (
	driverNamespace = "modelrights-node"
	driverAccount   = "modelrights-node"
)

// keyWorld is an API server with licences, nodes, a node driver's pod on each node, and key services over real TLS.
type keyWorld struct {
	client client.WithWatch
	// cache, ledgers and rights are what all replicas have in memory.
	cache   cache.Cache
	ledgers *seatbook.View
	rights  *rights.Store
	// outOfTouch cuts the replicas off from the API server, as far as they know.
	outOfTouch atomic.Bool
	// appendFails makes the API server refuse audit records.
	appendFails atomic.Bool
	events      *events.FakeRecorder
}

func newKeyWorld(ctx context.Context, config *rest.Config) *keyWorld {
	GinkgoHelper()
	c, err := client.NewWithWatch(config, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
	w := &keyWorld{client: c, events: events.NewFakeRecorder(1024)}
	w.remember(ctx, config)
	for _, name := range []string{operatorNamespace, driverNamespace} {
		w.create(ctx, builders.Namespace(name).Obj())
	}
	w.account(ctx, driverNamespace, driverAccount)
	for _, node := range []string{"node-a", "node-b"} {
		w.create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
		w.pod(ctx, builders.Pod(driverNamespace, "driver-"+node).ServiceAccount(driverAccount).Container("driver", "driver.example.com/node"), node)
	}
	return w
}

// remember starts what the replicas have in memory.
func (w *keyWorld) remember(ctx context.Context, config *rest.Config) {
	GinkgoHelper()
	var err error
	w.cache, err = cache.New(config, cache.Options{Scheme: testScheme, ByObject: map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Transform: controllers.TrimPod}, &corev1.Node{}: {Transform: controllers.TrimNode},
	}})
	Expect(err).NotTo(HaveOccurred())
	w.ledgers = seatbook.NewView()
	ledgersSynced, err := w.ledgers.Watch(ctx, w.cache)
	Expect(err).NotTo(HaveOccurred())
	w.rights, err = rights.NewStore(nil, w.cache, w.client)
	Expect(err).NotTo(HaveOccurred())
	rightsSynced, err := w.rights.Watch(ctx, w.cache)
	Expect(err).NotTo(HaveOccurred())
	start(w.cache.Start)
	Expect(ledgersSynced(ctx)).To(Succeed())
	Expect(rightsSynced(ctx)).To(Succeed())
}

// book writes ledgers, as one replica does.
func (w *keyWorld) book() *seatbook.Book {
	return seatbook.New(seatbook.Options{Client: w.client, Reader: w.client})
}

// seat gives a pod on a node its seat of a licence.
func (w *keyWorld) seat(ctx context.Context, pod *corev1.Pod, license string) {
	GinkgoHelper()
	var l v1alpha1.ModelLicense
	Expect(w.client.Get(ctx, client.ObjectKey{Name: license}, &l)).To(Succeed())
	results, err := w.book().Do(ctx, license, seats.Limit{License: &l},
		seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: pod.Namespace, Name: "chat"}, Generation: l.Generation, Since: time.Now().Truncate(time.Second)},
		seats.Bind{Pod: pod.UID, Node: pod.Spec.NodeName})
	Expect(err).NotTo(HaveOccurred())
	for _, result := range results {
		Expect(result.OK()).To(BeTrue(), "%+v", result)
	}
}

// label sets the region of a node.
func (w *keyWorld) label(ctx context.Context, node, region string) {
	GinkgoHelper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"region":%q}}}`, region)
	Expect(w.client.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}

// holder is the seat of a pod as the API server has it.
func (w *keyWorld) holder(ctx context.Context, pod *corev1.Pod, license string) (seats.Holder, bool) {
	GinkgoHelper()
	var stored v1alpha1.ModelSeats
	Expect(w.client.Get(ctx, client.ObjectKey{Name: license}, &stored)).To(Succeed())
	ledger, err := seats.Decode(&stored)
	Expect(err).NotTo(HaveOccurred())
	return ledger.Holder(pod.UID)
}

func (w *keyWorld) create(ctx context.Context, o client.Object) {
	GinkgoHelper()
	Expect(w.client.Create(ctx, o)).To(Succeed())
}

func (w *keyWorld) account(ctx context.Context, namespace, name string) {
	GinkgoHelper()
	w.create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
}

// pod creates a pod on a node.
func (w *keyWorld) pod(ctx context.Context, b *builders.PodBuilder, node string) *corev1.Pod {
	GinkgoHelper()
	pod := b.Obj()
	pod.Spec.NodeName = node
	w.create(ctx, pod)
	return pod
}

// token has the API server issue a token, bound to a pod unless that is nil.
func (w *keyWorld) token(ctx context.Context, namespace, account, audience string, pod *corev1.Pod) string {
	GinkgoHelper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	Expect(w.client.SubResource("token").Create(ctx, sa, request)).To(Succeed())
	return request.Status.Token
}

// driverToken is the token that kubelet projects into the driver's pod on a node.
func (w *keyWorld) driverToken(ctx context.Context, node string) string {
	GinkgoHelper()
	var pod corev1.Pod
	Expect(w.client.Get(ctx, client.ObjectKey{Namespace: driverNamespace, Name: "driver-" + node}, &pod)).To(Succeed())
	return w.token(ctx, driverNamespace, driverAccount, protocol.AudienceDriver, &pod)
}

// auditLog starts an audit log of an operator's replica.
func (w *keyWorld) auditLog(identity string) *audit.Log {
	GinkgoHelper()
	writer := interceptor.NewClient(w.client, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if w.appendFails.Load() {
				return apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("modelauditrecords").GroupResource(), o.GetName(), errors.New("test"))
			}
			return c.Create(ctx, o, opts...)
		},
	})
	log, err := audit.New(audit.Options{Client: writer, Reader: w.client, Identity: identity, Linger: 5 * time.Millisecond})
	Expect(err).NotTo(HaveOccurred())
	start(log.Start)
	return log
}

// start runs something until the specs are over.
func start(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	DeferCleanup(func() {
		cancel()
		Eventually(done).Should(Receive(BeNil()))
	})
}

// keyReplica is the key service of one replica of the operator.
type keyReplica struct {
	url string
	ca  []byte
}

// replica starts a key service that writes to an audit log.
func (w *keyWorld) replica(ctx context.Context, log keyservice.AuditLog) *keyReplica {
	GinkgoHelper()
	ca, certificate := servingCertificate()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	server, err := keyservice.NewServer(&keyservice.Releaser{
		Reader: w.client, Tokens: w.client, Source: keys.NewSecretSource(w.client, operatorNamespace),
		Audit: log, Events: w.events, DriverNamespace: driverNamespace, DriverServiceAccount: driverAccount, Clock: clock.RealClock{},
		Seats: w.book(), Ledgers: w.ledgers, Cached: w.cache, Rights: w.rights, InTouch: func() bool { return !w.outOfTouch.Load() },
	}, keyservice.ServerOptions{
		Listener: listener, Metrics: prometheus.NewRegistry(), Log: GinkgoLogr,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
	})
	Expect(err).NotTo(HaveOccurred())
	start(server.Start)
	return &keyReplica{url: "https://" + listener.Addr().String(), ca: ca}
}

// release calls a key service as a driver with a token does.
func (r *keyReplica) release(ctx context.Context, bearer string, request *protocol.ReleaseRequest) (string, error) {
	GinkgoHelper()
	response, err := r.calledBy(bearer).Release(ctx, request)
	if err != nil {
		return "", err
	}
	return string(response.Files[v1alpha1.KeyFileName]), nil
}

// calledBy is a driver with a token.
func (r *keyReplica) calledBy(bearer string) *keyclient.Client {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	options := keyclient.Options{URL: r.url, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token")}
	Expect(os.WriteFile(options.CAFile, r.ca, 0o600)).To(Succeed())
	Expect(os.WriteFile(options.TokenFile, []byte(bearer), 0o600)).To(Succeed())
	c, err := keyclient.New(options)
	Expect(err).NotTo(HaveOccurred())
	return c
}

// entries lists the audit entries of a type that speak of a pod.
func (w *keyWorld) entries(ctx context.Context, entryType audit.Type, pod *corev1.Pod) []audit.Entry {
	GinkgoHelper()
	var found []audit.Entry
	for e, err := range audit.Entries(ctx, w.client, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Type == entryType && e.Entry.Pod.UID == string(pod.UID) {
			found = append(found, e.Entry)
		}
	}
	return found
}

// servingCertificate is a self-signed certificate for 127.0.0.1, and itself as CA.
func servingCertificate() (ca []byte, certificate *tls.Certificate) {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
