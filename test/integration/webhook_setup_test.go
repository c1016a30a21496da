package integration

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/webhooks"
)

// steeredRights are the real store's, but can be made stale or unable to read.
type steeredRights struct {
	*rights.Store
	mu          sync.Mutex
	frozen      *entitlement.Snapshot
	unreachable bool
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

// admission is an API server that calls the pod webhooks, with the rules that are installed in clusters.
type admission struct {
	config *rest.Config
	client client.Client
	rights *steeredRights
	log    *submitted
}

// startAdmission starts one for the specs of a container, which governs registry.example.com/governed/**.
func startAdmission(ctx context.Context) *admission {
	GinkgoHelper()
	env := &envtest.Environment{WebhookInstallOptions: webhookConfigurations()}
	a := &admission{config: startEnvironment(env), log: &submitted{}}
	DeferCleanup(env.Stop)
	a.client = clientOf(a.config)

	install := env.WebhookInstallOptions
	mgr, err := ctrl.NewManager(a.config, ctrl.Options{
		Scheme:  testScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Logger:  GinkgoLogr,
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: install.LocalServingHost, Port: install.LocalServingPort, CertDir: install.LocalServingCertDir,
		}),
	})
	Expect(err).NotTo(HaveOccurred())
	store, err := rights.NewStore([]string{"registry.example.com/governed/**"}, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	running, stop := context.WithCancel(context.Background())
	waitForSync, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	a.rights = &steeredRights{Store: store}
	Expect(webhooks.Register(mgr.GetWebhookServer(), webhooks.Options{
		PathSecret: pathSecret, Rights: a.rights, Denials: webhooks.NewReporter(a.log, mgr.GetEventRecorder("modelrights-operator")),
	})).To(Succeed())

	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	DeferCleanup(func() {
		stop()
		Eventually(ended).WithTimeout(30 * time.Second).Should(Receive(BeNil()))
	})
	Expect(waitForSync(ctx)).To(Succeed())
	Eventually(func() error { return mgr.GetWebhookServer().StartedChecker()(nil) }).WithTimeout(30 * time.Second).Should(Succeed())
	return a
}

// pathSecret is the part of the webhooks' paths that only the API server knows.
var pathSecret = strings.Repeat("0123456789abcdef", 4)

// webhookConfigurations are those that are installed in clusters, with the paths that the operator writes into them.
func webhookConfigurations() envtest.WebhookInstallOptions {
	GinkgoHelper()
	var options envtest.WebhookInstallOptions
	convert := func(from *unstructured.Unstructured, to any) {
		Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(from.Object, to)).To(Succeed())
	}
	for _, object := range configManifests("webhook") {
		switch object.GetKind() {
		case "MutatingWebhookConfiguration":
			configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
			convert(object, configuration)
			configuration.Webhooks[0].ClientConfig.Service.Path = ptr.To(webhooks.MutatePodsPath(pathSecret))
			options.MutatingWebhooks = append(options.MutatingWebhooks, configuration)
		case "ValidatingWebhookConfiguration":
			configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{}
			convert(object, configuration)
			configuration.Webhooks[0].ClientConfig.Service.Path = ptr.To(webhooks.ValidatePodsPath(pathSecret))
			options.ValidatingWebhooks = append(options.ValidatingWebhooks, configuration)
		}
	}
	return options
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
	}).WithTimeout(10 * time.Second).WithPolling(20 * time.Millisecond).Should(Succeed())
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
