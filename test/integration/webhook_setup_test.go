package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
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
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	applyadmissionv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/test/builders"
	"modelrights.dev/modelrights/webhooks"
)

// steeredRights are the real store's, but can be made stale or unable to read.
type steeredRights struct {
	*rights.Store
	mu          sync.Mutex
	frozen      *entitlement.Snapshot
	unreachable bool
	forgetful   int
}

// forget makes memory know nothing when it is asked next, as the mutating webhook does first.
func (s *steeredRights) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetful = 1
}

// freeze makes memory stay as it is; thaw makes it follow the API server again, which can then be reached again too.
func (s *steeredRights) freeze(unreachable bool) {
	now, _ := s.Store.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.unreachable = now, unreachable
}

func (s *steeredRights) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.unreachable = nil, false
}

func (s *steeredRights) Snapshot() (*entitlement.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgetful > 0 {
		s.forgetful--
		return &entitlement.Snapshot{}, true
	}
	if s.frozen != nil {
		return s.frozen, true
	}
	return s.Store.Snapshot()
}

func (s *steeredRights) Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error) {
	s.mu.Lock()
	unreachable := s.unreachable
	s.mu.Unlock()
	if unreachable {
		return nil, errors.New("the API server cannot be reached")
	}
	return s.Store.Live(ctx, namespace)
}

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

// addressed writes webhook configurations with the address where the webhooks answer in tests, instead of the Service,
// which the API server has no way to there; and reads them with the Service.
type addressed struct {
	client.Client
	at string
}

func (a *addressed) Apply(ctx context.Context, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	switch o := object.(type) {
	case *applyadmissionv1.MutatingWebhookConfigurationApplyConfiguration:
		for i := range o.Webhooks {
			a.address(o.Webhooks[i].ClientConfig)
		}
	case *applyadmissionv1.ValidatingWebhookConfigurationApplyConfiguration:
		for i := range o.Webhooks {
			a.address(o.Webhooks[i].ClientConfig)
		}
	}
	return a.Client.Apply(ctx, object, options...)
}

func (a *addressed) address(c *applyadmissionv1.WebhookClientConfigApplyConfiguration) {
	c.URL, c.Service = ptr.To(a.at+*c.Service.Path), nil
}

func (a *addressed) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if err := a.Client.Get(ctx, key, object, options...); err != nil {
		return err
	}
	switch o := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			a.named(&o.Webhooks[i].ClientConfig)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			a.named(&o.Webhooks[i].ClientConfig)
		}
	}
	return nil
}

func (a *addressed) named(c *admissionregistrationv1.WebhookClientConfig) {
	if path, ok := strings.CutPrefix(ptr.Deref(c.URL, ""), a.at); ok {
		c.URL, c.Service = nil, &admissionregistrationv1.ServiceReference{
			Namespace: operatorNamespace, Name: "modelrights-webhook", Path: &path, Port: ptr.To[int32](443),
		}
	}
}

// review is a review that the operator was sent.
type review struct {
	Operation              admissionv1.Operation
	Namespace, Name, Image string
}

// reviews gathers reviews.
type reviews struct {
	mu  sync.Mutex
	all []review
}

func (r *reviews) taken() []review {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// of lists the reviews of pods whose name, or generated name, begins so.
func (r *reviews) of(prefix string) []review {
	return slices.DeleteFunc(r.taken(), func(v review) bool { return !strings.HasPrefix(v.Name, prefix) })
}

// reviewedServer notes the reviews that come in.
type reviewedServer struct {
	webhook.Server
	reviews *reviews
}

func (s *reviewedServer) Register(path string, hook http.Handler) {
	s.Server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		var asked admissionv1.AdmissionReview
		var pod corev1.Pod
		if json.Unmarshal(body, &asked) == nil && asked.Request != nil && json.Unmarshal(asked.Request.Object.Raw, &pod) == nil {
			seen := review{
				Operation: asked.Request.Operation, Namespace: asked.Request.Namespace, Name: cmp.Or(pod.Name, pod.GenerateName),
			}
			if len(pod.Spec.Containers) > 0 {
				seen.Image = pod.Spec.Containers[0].Image
			}
			s.reviews.mu.Lock()
			s.reviews.all = append(s.reviews.all, seen)
			s.reviews.mu.Unlock()
		}
		hook.ServeHTTP(w, req)
	}))
}

// inForce waits until the API server sends pods that use the repository to the operator.
func (a *admission) inForce(ctx context.Context, repository string) {
	GinkgoHelper()
	image := strings.NewReplacer("**", "x", "*", "x").Replace(repository)
	Eventually(func() []review {
		before := len(a.reviews.taken())
		_ = a.client.Create(ctx, builders.Pod("default", "in-force").Container("main", image).Obj(), client.DryRunAll)
		return a.reviews.taken()[before:]
	}).WithContext(ctx).
		Should(ContainElement(HaveField("Image", image)), "%s is sent to the operator", repository)
}

// write creates objects and waits until the webhooks know them.
func (a *admission) write(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(a.client.Create(ctx, object)).To(Succeed())
	}
	a.synced(ctx)
}

// revoke deletes grants and licences and waits until the webhooks know.
func (a *admission) revoke(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(client.IgnoreNotFound(a.client.Delete(ctx, object))).To(Succeed())
	}
	a.synced(ctx)
}

// synced waits until memory holds the licences and grants that the API server has.
func (a *admission) synced(ctx context.Context) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		s, _ := a.rights.Store.Snapshot()
		var licenses v1alpha1.ModelLicenseList
		g.Expect(a.client.List(ctx, &licenses)).To(Succeed())
		for _, l := range licenses.Items {
			g.Expect(s.License(l.Name)).NotTo(BeNil())
			g.Expect(s.License(l.Name).UID).To(Equal(l.UID))
		}
		for _, namespace := range []string{"ml-prod", "ml-dev"} {
			var grants v1alpha1.ModelGrantList
			g.Expect(a.client.List(ctx, &grants, client.InNamespace(namespace))).To(Succeed())
			g.Expect(s.GrantsIn(namespace)).To(HaveLen(len(grants.Items)))
		}
	}).Should(Succeed())
	var licenses v1alpha1.ModelLicenseList
	Expect(a.client.List(ctx, &licenses)).To(Succeed())
	for i := range licenses.Items {
		Eventually(func() (bool, error) {
			covered, _, err := a.configurations.Covers(ctx, &licenses.Items[i])
			return covered, err
		}).Should(BeTrue(), "the configurations cover licence %s", licenses.Items[i].Name)
		for _, image := range licenses.Items[i].Spec.Images {
			a.inForce(ctx, image.Repository)
		}
	}
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

// beDenied matches an error by which a webhook of ours denied a pod for a reason, with a message that holds the parts.
func beDenied(reason v1alpha1.Reason, parts ...string) OmegaMatcher {
	matchers := []OmegaMatcher{
		WithTransform(apierrors.IsForbidden, BeTrue()),
		MatchError(ContainSubstring("modelrights: pod denied [" + string(reason) + "]: ")),
		WithTransform(func(err error) []string {
			var status apierrors.APIStatus
			if !errors.As(err, &status) || status.Status().Details == nil {
				return nil
			}
			var causes []string
			for _, c := range status.Status().Details.Causes {
				causes = append(causes, string(c.Type))
			}
			return causes
		}, ContainElement(string(reason))),
	}
	for _, part := range parts {
		matchers = append(matchers, MatchError(ContainSubstring(part)))
	}
	return And(matchers...)
}
