package integration

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
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
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/test/builders"
	"modelrights.dev/modelrights/webhooks"
)

// seated says which licences pods hold seats of.
type seated struct {
	mu       sync.Mutex
	licenses map[apitypes.UID][]string
}

func (s *seated) LicensesOf(pod apitypes.UID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.licenses[pod])
}

func (s *seated) seat(pod apitypes.UID, license string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.licenses[pod] = append(s.licenses[pod], license)
}

// startExec starts what of the operator decides on interactive access, and returns what stops it.
func startExec(env *envtest.Environment, seats *seated, log *submitted, sent *reviews) (stop func()) {
	GinkgoHelper()
	install := env.WebhookInstallOptions
	at := "https://" + net.JoinHostPort(install.LocalServingHost, strconv.Itoa(install.LocalServingPort))
	mgr, err := ctrl.NewManager(env.Config, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: GinkgoLogr,
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
		WebhookServer: &reviewedServer{reviews: sent, Server: webhook.NewServer(webhook.Options{
			Host: install.LocalServingHost, Port: install.LocalServingPort, CertDir: install.LocalServingCertDir,
		})},
	})
	Expect(err).NotTo(HaveOccurred())
	running, cancel := context.WithCancel(context.Background())
	store, err := rights.NewStore(nil, mgr.GetCache(), mgr.GetAPIReader())
	Expect(err).NotTo(HaveOccurred())
	waitForSync, err := store.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	ledgers := seatbook.NewView()
	waitForLedgers, err := ledgers.Watch(running, mgr.GetCache())
	Expect(err).NotTo(HaveOccurred())
	Expect(webhooks.RegisterExec(mgr.GetWebhookServer(), webhooks.ExecOptions{
		PathSecret: pathSecret, Licenses: store, Seats: seats, Pods: mgr.GetCache(), Live: mgr.GetAPIReader(),
		Sessions: webhooks.NewSessionReporter(log, mgr.GetEventRecorder("modelrights-operator")),
		Clock:    clock.RealClock{}, Metrics: prometheus.NewRegistry(),
	})).To(Succeed())
	settings := operatorSettings()
	settings.DenyExecPath, settings.AuditExecPath = webhooks.DenyExecPath(pathSecret), webhooks.AuditExecPath(pathSecret)
	live := &addressed{Client: clientOf(env.Config), at: at}
	Expect((&controllers.ExecWebhooks{
		Client: live, Live: live, Rights: store, Ledgers: ledgers, Certificates: fixedCertificate(install.LocalServingCAData), Settings: settings,
	}).SetupWithManager(mgr)).To(Succeed())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(running) }()
	stop = sync.OnceFunc(func() {
		cancel()
		Eventually(ended).Should(Receive(BeNil()))
	})
	DeferCleanup(stop)
	Expect(waitForSync(running)).To(Succeed())
	Expect(waitForLedgers(running)).To(Succeed())
	return stop
}

var _ = Describe("Interactive access to pods that hold a key", Ordered, ContinueOnFailure, func() {
	const strict, recorded, open, none = "strict", "recorded", "open", "none"
	var (
		env   *envtest.Environment
		c     client.Client
		pods  *kubernetes.Clientset
		seats = &seated{licenses: map[apitypes.UID][]string{}}
		log   = &submitted{}
		sent  = &reviews{}
		stop  func()
	)

	connect := func(ctx context.Context, namespace, pod, subresource string, options runtime.Object) error {
		return pods.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource(subresource).
			VersionedParams(options, clientgoscheme.ParameterCodec).Do(ctx).Error()
	}
	exec := func(ctx context.Context, namespace, pod string) error {
		return connect(ctx, namespace, pod, "exec", &corev1.PodExecOptions{Container: "main", Command: []string{"id"}, Stdout: true})
	}
	attach := func(ctx context.Context, namespace, pod string) error {
		return connect(ctx, namespace, pod, "attach", &corev1.PodAttachOptions{Container: "main", Stdout: true})
	}
	debug := func(ctx context.Context, namespace, pod string) error {
		found, err := pods.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found.Spec.EphemeralContainers = append(found.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox", TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullAlways},
		})
		_, err = pods.CoreV1().Pods(namespace).UpdateEphemeralContainers(ctx, pod, found, metav1.UpdateOptions{})
		return err
	}
	// beConnected is what the API server says once admission has let a request through: there is no kubelet.
	beConnected := func() types.GomegaMatcher {
		return MatchError(ContainSubstring("does not have a host assigned"))
	}
	beExecDenied := func() types.GomegaMatcher {
		return And(
			WithTransform(apierrors.IsForbidden, BeTrueBecause("it is refused, not broken")),
			MatchError(And(ContainSubstring("[ExecDenied]"), ContainSubstring("acme-strict"), ContainSubstring("kubectl logs"))),
		)
	}
	sentFrom := func(namespace string) []review {
		return slices.DeleteFunc(sent.taken(), func(r review) bool { return r.Namespace != namespace })
	}
	entries := func(namespace string) []audit.Entry {
		return slices.DeleteFunc(log.all(), func(e audit.Entry) bool { return e.Namespace != namespace })
	}

	BeforeAll(func(ctx SpecContext) {
		env = &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		c = clientOf(config)
		var err error
		pods, err = kubernetes.NewForConfig(config)
		Expect(err).NotTo(HaveOccurred())
		applyConfig(ctx, c, "webhook")
		for namespace, policy := range map[string]v1alpha1.ExecPolicy{strict: v1alpha1.ExecDeny, recorded: "", open: v1alpha1.ExecAllow, none: "-", "kube-system": "-"} {
			if namespace != "kube-system" {
				Expect(c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
			}
			license := "acme-" + namespace
			if policy != "-" {
				l := builders.License(license).Repository("registry.example.com/models/" + namespace).Key("v1").Namespaces(namespace).Obj()
				l.Spec.Terms.Exec = policy
				Expect(c.Create(ctx, l)).To(Succeed())
			}
			for _, name := range []string{"holder", "other"} {
				pod := builders.Pod(namespace, name).Container("main", "registry.example.com/any").Obj()
				Expect(c.Create(ctx, pod)).To(Succeed())
				if name == "holder" {
					seats.seat(pod.UID, license)
				}
			}
			if policy != "-" {
				Expect(c.Create(ctx, builders.Grant(namespace, "g", license).ServiceAccount("default").Obj())).To(Succeed())
			}
		}
		Expect(c.Create(ctx, builders.Grant("kube-system", "g", "acme-strict").ServiceAccount("default").Obj())).To(Succeed())
		stop = startExec(env, seats, log, sent)
		Eventually(func() error { return exec(ctx, strict, "holder") }).WithContext(ctx).Should(beExecDenied())
	})

	It("is refused where a licence says Deny, and told", func(ctx SpecContext) {
		Expect(exec(ctx, strict, "holder")).To(beExecDenied())
		Expect(attach(ctx, strict, "holder")).To(beExecDenied())
		Expect(debug(ctx, strict, "holder")).To(beExecDenied())
		Expect(entries(strict)).To(ContainElements(
			And(HaveField("Type", audit.Exec), HaveField("Reason", v1alpha1.ReasonExecDenied), HaveField("License.Name", "acme-strict"), HaveField("Pod.Name", "holder"), HaveField("Actor", Not(BeEmpty())), HaveField("Message", `exec into container "main"`)),
			HaveField("Message", `attach to container "main"`),
			HaveField("Message", ContainSubstring(`ephemeral container "debug"`)),
		))
		found, err := pods.CoreV1().Pods(strict).Get(ctx, "holder", metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Spec.EphemeralContainers).To(BeEmpty())
	})

	It("is nobody's business for pods that hold no key", func(ctx SpecContext) {
		before := len(entries(strict))
		Expect(exec(ctx, strict, "other")).To(beConnected())
		Expect(attach(ctx, strict, "other")).To(beConnected())
		Expect(debug(ctx, strict, "other")).To(Succeed())
		Expect(exec(ctx, strict, "missing")).To(WithTransform(apierrors.IsNotFound, BeTrueBecause("there is no such pod")))
		Expect(entries(strict)).To(HaveLen(before))
	})

	It("passes where licences record it, and is told", func(ctx SpecContext) {
		Eventually(func() []audit.Entry { _ = exec(ctx, recorded, "holder"); return entries(recorded) }).WithContext(ctx).Should(ContainElement(And(HaveField("Type", audit.Exec), HaveField("Reason", v1alpha1.ReasonExecIntoKeyHolder), HaveField("License.Name", "acme-recorded"))))
		Expect(exec(ctx, recorded, "holder")).To(beConnected())
		Expect(attach(ctx, recorded, "holder")).To(beConnected())
		Expect(debug(ctx, recorded, "holder")).To(Succeed())
	})

	It("is not sent to the operator from kube-system, and where no licence denies or records it", func(ctx SpecContext) {
		for _, namespace := range []string{open, none, "kube-system"} {
			Expect(exec(ctx, namespace, "holder")).To(beConnected(), namespace)
			Expect(attach(ctx, namespace, "holder")).To(beConnected(), namespace)
			Expect(debug(ctx, namespace, "holder")).To(Succeed(), namespace)
			Expect(sentFrom(namespace)).To(BeEmpty(), namespace)
		}
	})

	It("is sent from a namespace that gets a grant, and no longer when the grant is gone", func(ctx SpecContext) {
		grant := builders.Grant(none, "g", "acme-strict").ServiceAccount("default").Obj()
		Expect(c.Create(ctx, grant)).To(Succeed())
		holder, err := pods.CoreV1().Pods(none).Get(ctx, "holder", metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		seats.seat(holder.UID, "acme-strict")
		Eventually(func() error { return exec(ctx, none, "holder") }).WithContext(ctx).Should(beExecDenied())
		Expect(c.Delete(ctx, grant)).To(Succeed())
		Eventually(func() error { return exec(ctx, none, "holder") }).WithContext(ctx).Should(beConnected())
	})

	It("while the operator is away, is refused where a licence says Deny, and passes elsewhere", func(ctx SpecContext) {
		stop()
		for _, pod := range []string{"holder", "other"} {
			err := exec(ctx, strict, pod)
			Expect(err).To(MatchError(ContainSubstring("deny.exec.modelrights.dev")))
			Expect(apierrors.ReasonForError(err)).To(Equal(metav1.StatusReasonInternalError))
			Expect(attach(ctx, strict, pod)).To(MatchError(ContainSubstring("deny.exec.modelrights.dev")))
			for _, namespace := range []string{recorded, open, none, "kube-system"} {
				Expect(exec(ctx, namespace, pod)).To(beConnected(), namespace)
				Expect(attach(ctx, namespace, pod)).To(beConnected(), namespace)
			}
		}
	})

	It("while the operator is away, is refused where a licence says Deny alone, in however many namespaces that is", func(ctx SpecContext) {
		settings := operatorSettings()
		settings.DenyExecPath, settings.AuditExecPath = webhooks.DenyExecPath(pathSecret), webhooks.AuditExecPath(pathSecret)
		for _, size := range []struct{ denied, audited int }{
			{1000, 1}, {1001, 1}, {2500, 2500}, {admissionconfig.MaxExecNamespaces, admissionconfig.MaxExecNamespaces},
			{admissionconfig.MaxExecNamespaces + 100, admissionconfig.MaxExecNamespaces},
		} {
			By(fmt.Sprintf("%d namespaces with Deny, %d with Audit", size.denied, size.audited))
			scope := admissionconfig.NewExecScope(func(yield func(string, v1alpha1.ExecPolicy) bool) {
				// Names as long as they can be, with those of the pods among them: of the former, the last are beyond the bound.
				for policy, n := range map[v1alpha1.ExecPolicy]int{v1alpha1.ExecDeny: size.denied, v1alpha1.ExecAudit: size.audited} {
					for i := range n - 1 {
						if !yield(fmt.Sprintf("tenants-%s-%058d", strings.ToLower(string(policy)), i)[:63], policy) {
							return
						}
					}
				}
				_ = yield(strict, v1alpha1.ExecDeny) && yield(recorded, v1alpha1.ExecAudit)
			})
			for _, ca := range [][]byte{env.WebhookInstallOptions.LocalServingCAData, append(env.WebhookInstallOptions.LocalServingCAData, '\n')} {
				want := admissionconfig.ValidatingExec(settings, scope, ca)
				apply, err := admissionconfig.ValidatingApply(admissionconfig.Exec, want)
				Expect(err).NotTo(HaveOccurred())
				Expect(c.Apply(ctx, apply, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())
				live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
				Expect(c.Get(ctx, client.ObjectKey{Name: admissionconfig.Exec}, live)).To(Succeed())
				Expect(admissionconfig.SameValidating(live.Webhooks, want)).To(BeTrueBecause("nothing is lost, and nothing is left over"))
			}
			Eventually(func() error { return exec(ctx, strict, "holder") }).WithContext(ctx).Should(MatchError(ContainSubstring("deny.exec.modelrights.dev")))
			for _, namespace := range []string{recorded, open, none, "kube-system"} {
				Eventually(func() error { return exec(ctx, namespace, "holder") }).WithContext(ctx).Should(beConnected(), namespace)
			}
		}
	})
})
