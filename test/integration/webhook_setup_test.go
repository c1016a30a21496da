package integration

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/webhooks"
)

// submitted are the entries for the audit log.
type submitted struct {
	mu      sync.Mutex
	entries []audit.Entry
}

func (s *submitted) Offer(e audit.Entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
	return true
}

func (s *submitted) all() []audit.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

// admission is an API server that calls the webhooks of an operator, which writes the configurations itself, as in clusters.
type admission struct {
	config *rest.Config
	client client.Client
	rights *steeredRights
	log    *submitted
	// reviews are those that the operator was sent.
	reviews *reviews
	// configurations are kept by the operator.
	configurations *controllers.WebhookReconciler
	// seats are the ledgers as the operator sees them.
	seats *seatbook.View
	// clock is the operator's.
	clock *jumpingClock
	// stop ends the operator, and waits until it has ended.
	stop func()
}

// startAdmission starts one for the specs of a container, which governs registry.example.com/governed/**.
func startAdmission(ctx context.Context) *admission {
	GinkgoHelper()
	env := &envtest.Environment{}
	config := startEnvironment(env)
	DeferCleanup(env.Stop)
	applyConfig(ctx, clientOf(config), "webhook")
	return startOperator(ctx, env, "registry.example.com/governed/**")
}

// operatorSettings are those of an operator in the namespaces of config/.
func operatorSettings() admissionconfig.Settings {
	return admissionconfig.Settings{
		Operator:         operatorAccount,
		ServiceNamespace: operatorNamespace, ServiceName: "modelrights-webhook",
		MutatePodsPath: webhooks.MutatePodsPath(pathSecret), ValidatePodsPath: webhooks.ValidatePodsPath(pathSecret),
		ValidateWorkloadsPath: webhooks.ValidateWorkloadsPath(pathSecret), ExemptNamespaces: []string{operatorNamespace, nodeNamespace},
	}
}

// startOperator starts what of the operator admission needs: the snapshot, the webhooks and their configurations, and the
// licences' status. It returns when all that the API server holds is in force.
func startOperator(ctx context.Context, env *envtest.Environment, governed ...string) *admission {
	GinkgoHelper()
	return startOperatorWith(ctx, env, func(ctrl.Manager, controllers.Coverage) {}, governed...)
}

// startOperatorWith is startOperator with further controllers.
func startOperatorWith(ctx context.Context, env *envtest.Environment, add func(ctrl.Manager, controllers.Coverage), governed ...string) *admission {
	GinkgoHelper()
	a := &admission{config: env.Config, client: clientOf(env.Config), log: &submitted{}, reviews: &reviews{}, clock: &jumpingClock{}}
	install := env.WebhookInstallOptions
	at := "https://" + net.JoinHostPort(install.LocalServingHost, strconv.Itoa(install.LocalServingPort))
	mgr, err := ctrl.NewManager(a.config, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: GinkgoLogr,
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
		WebhookServer: &reviewedServer{reviews: a.reviews, Server: webhook.NewServer(webhook.Options{
			Host: install.LocalServingHost, Port: install.LocalServingPort, CertDir: install.LocalServingCertDir,
		})},
		NewClient: func(config *rest.Config, options client.Options) (client.Client, error) {
			c, err := client.New(config, options)
			return &addressed{Client: c, at: at}, err
		},
	})
	Expect(err).NotTo(HaveOccurred())
	store, err := rights.NewStore(governed, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	running, stop := context.WithCancel(context.Background())
	waitForSync, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	a.rights = &steeredRights{Store: store}
	a.seats = seatbook.NewView()
	waitForSeats, err := a.seats.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	Expect(webhooks.Register(mgr.GetWebhookServer(), webhooks.Options{
		PathSecret: pathSecret, Rights: a.rights, Seats: a.seats, OperatorUser: userOf(ctx, a.client), Denials: webhooks.NewReporter(a.log, mgr.GetEventRecorder("modelrights-operator")),
		Clock: a.clock,
	})).To(Succeed())
	a.configurations = &controllers.WebhookReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Rights: store, Settings: operatorSettings(),
		Certificates: fixedCertificate(install.LocalServingCAData),
	}
	Expect(a.configurations.SetupWithManager(mgr)).To(Succeed())
	add(mgr, a.configurations)

	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	a.stop = sync.OnceFunc(func() {
		stop()
		Eventually(ended).Should(Receive(BeNil()))
	})
	DeferCleanup(a.stop)
	Expect(waitForSync(ctx)).To(Succeed())
	Expect(waitForSeats(ctx)).To(Succeed())
	Eventually(func() error { return mgr.GetWebhookServer().StartedChecker()(nil) }).Should(Succeed())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/readyz", http.NoBody)
	Expect(err).NotTo(HaveOccurred())
	Eventually(func() error { return a.configurations.Ready(request) }).Should(Succeed())
	a.synced(ctx)
	for _, repository := range governed {
		a.inForce(ctx, repository)
	}
	return a
}

// userOf is the name by which the API server knows the client: that of the operator, where it is the operator's.
func userOf(ctx context.Context, c client.Client) string {
	GinkgoHelper()
	review := &authenticationv1.SelfSubjectReview{}
	Expect(c.Create(ctx, review)).To(Succeed())
	return review.Status.UserInfo.Username
}

// asTenant is a client of somebody who may do everything, and is not the operator.
func (a *admission) asTenant() client.Client {
	config := rest.CopyConfig(a.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "ada", Groups: []string{"system:masters", "system:authenticated"}}
	return clientOf(config)
}

// jumpingClock tells the time, and can be set forward.
type jumpingClock struct{ ahead atomic.Int64 }

func (c *jumpingClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *jumpingClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *jumpingClock) jump(d time.Duration) { c.ahead.Add(int64(d)) }

// pathSecret is the part of the webhooks' paths that only the API server knows.
var pathSecret = strings.Repeat("0123456789abcdef", 4)

// fixedCertificate is a CA bundle that never changes.
type fixedCertificate []byte

func (c fixedCertificate) CABundle() []byte { return c }
func (c fixedCertificate) OnChange(func())  {}
func (c fixedCertificate) Verifies(bundle []byte) error {
	if !bytes.Equal(bundle, c) {
		return errors.New("another CA")
	}
	return nil
}

// minor is the minor version of the API server.
func (a *admission) minor() int {
	GinkgoHelper()
	d, err := discovery.NewDiscoveryClientForConfig(a.config)
	Expect(err).NotTo(HaveOccurred())
	version, err := d.ServerVersion()
	Expect(err).NotTo(HaveOccurred())
	minor, err := strconv.Atoi(strings.TrimSuffix(version.Minor, "+"))
	Expect(err).NotTo(HaveOccurred())
	return minor
}
