package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// outage is how long each outage of the specs lasts at least, in rounds of a pod's life.
const outage = 15

// deadLine takes calls where the operator listens, and hangs up: who is sent there is refused, and counted.
type deadLine struct {
	listener net.Listener
	taken    atomic.Int64
}

func openDeadLine(env *envtest.Environment) *deadLine {
	GinkgoHelper()
	install := env.WebhookInstallOptions
	address := net.JoinHostPort(install.LocalServingHost, strconv.Itoa(install.LocalServingPort))
	d := &deadLine{}
	Eventually(func() (err error) {
		d.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		return err
	}).Should(Succeed())
	go func() {
		for {
			connection, err := d.listener.Accept()
			if err != nil {
				return
			}
			d.taken.Add(1)
			_ = connection.Close()
		}
	}()
	return d
}

func (d *deadLine) calls() int64 { return d.taken.Load() }

func (d *deadLine) close() { _ = d.listener.Close() }

// passerBy creates ordinary pods, changes and deletes them all the while, and notes what admission had against it. That
// the API server cannot be reached, or has no etcd, is not admission's fault.
type passerBy struct {
	client  client.Client
	mu      sync.Mutex
	rounds  int
	against []error
	slowest time.Duration
}

func (p *passerBy) start() {
	running, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < 100_000 && running.Err() == nil; i++ {
			start := time.Now()
			err := p.round(running, i)
			p.note(err, time.Since(start))
			if err != nil {
				select {
				case <-running.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}()
	DeferCleanup(func() { stop(); <-done })
}

func (p *passerBy) round(ctx context.Context, i int) error {
	pod := ordinaryPod().Finalizer("example.com/hold").Obj()
	if i%3 == 0 {
		pod.Spec.Containers[0].Image = "registry.example.com:5000/tools/chat-7b:2.1"
	}
	if err := p.client.Create(ctx, pod); err != nil {
		return fmt.Errorf("creating: %w", err)
	}
	before := pod.DeepCopy()
	pod.Labels = map[string]string{"round": strconv.Itoa(i)}
	pod.Spec.Containers[0].Image = "quay.io/acme/web:2"
	if err := p.client.Patch(ctx, pod, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("changing: %w", err)
	}
	debugged := pod.DeepCopy()
	debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", "busybox:1.36").Obj().Spec.EphemeralContainers
	if err := p.client.SubResource("ephemeralcontainers").Update(ctx, debugged); err != nil {
		return fmt.Errorf("debugging: %w", err)
	}
	if err := p.client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	before = debugged.DeepCopy()
	debugged.Finalizers = nil
	if err := p.client.Patch(ctx, debugged, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("releasing: %w", err)
	}
	return nil
}

func (p *passerBy) note(err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.rounds++
		p.slowest = max(p.slowest, took)
	case strings.Contains(err.Error(), "modelrights") || strings.Contains(err.Error(), "webhook") || strings.Contains(err.Error(), "expression") || apierrors.IsForbidden(errors.Unwrap(err)):
		p.against = append(p.against, err)
	}
}

// passes waits for as many rounds as an outage lasts, without anything against them.
func (p *passerBy) passes(ctx context.Context) {
	GinkgoHelper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.rounds
	}
	before := count()
	Eventually(count).WithContext(ctx).WithTimeout(90 * time.Second).Should(BeNumerically(">=", before+outage))
	p.mu.Lock()
	defer p.mu.Unlock()
	Expect(p.against).To(BeEmpty(), "ordinary pods are refused")
}

var _ = Describe("Outages", Ordered, ContinueOnFailure, func() {
	var (
		env    *envtest.Environment
		c      client.Client
		by     *passerBy
		line   *deadLine
		before = map[string]*corev1.Pod{} // pods that were there before anything was governed
	)
	chat := func() *v1alpha1.ModelLicense {
		return builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v1").Namespaces("ml").Obj()
	}
	modelPod := func(name string) *builders.PodBuilder {
		return builders.Pod("ml", name).ServiceAccount("llm").Container("main", chatImage)
	}

	BeforeAll(func(ctx SpecContext) {
		env = &envtest.Environment{}
		// Directories that outlive the processes, so that these can be started again.
		env.ControlPlane.GetAPIServer().CertDir = GinkgoT().TempDir()
		env.ControlPlane.Etcd = &envtest.Etcd{DataDir: GinkgoT().TempDir()}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		config.QPS, config.Burst = 200, 400
		c = clientOf(config)
		applyConfig(ctx, c, "webhook")
		Expect(c.Create(ctx, builders.Namespace("ml").Obj())).To(Succeed())
		Expect(c.Create(ctx, builders.Namespace(operatorNamespace).Obj())).To(Succeed())
		before["plain"] = builders.Pod("ml", "plain").Container("main", "registry.example.com/tools/shell:1").Obj()
		before["model"] = modelPod("model").Finalizer("example.com/wait").Obj()
		before["swapped"] = modelPod("swapped").Obj()
		// As large as etcd takes, so that comparing two of them is as dear as it can get.
		large := builders.Pod("ml", "large").Finalizer("example.com/wait")
		for i := range 20 {
			large.Container(fmt.Sprintf("c%d", i), chatImage).Env(fmt.Sprintf("c%d", i), "FILLER", strings.Repeat("x", 60<<10))
		}
		before["large"] = large.Obj()
		for _, pod := range before {
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
			Expect(c.Create(ctx, pod)).To(Succeed(), "nothing is intercepted before the operator was there")
		}

		Expect(c.Create(ctx, chat())).To(Succeed())
		operator := startOperator(ctx, env, "registry.example.com/governed/**")
		Expect(c.Create(ctx, modelPod("denied").Obj())).To(beDenied(v1alpha1.ReasonNoGrant))
		by = &passerBy{client: c}
		by.start()
		by.passes(ctx)
		Expect(operator.reviews.of("ordinary-")).To(BeEmpty(), "ordinary pods are sent to the operator")
		operator.stop()
		line = openDeadLine(env)
		DeferCleanup(line.close)
	}, NodeTimeout(specTimeout))

	beRefused := func() OmegaMatcher { return MatchError(ContainSubstring("failed calling webhook")) }

	It("ordinary pods live on while the operator is scaled to zero", func(ctx SpecContext) {
		calls := line.calls()
		by.passes(ctx)
		Expect(line.calls()).To(Equal(calls), "ordinary pods wait for the operator")
	}, SpecTimeout(specTimeout))

	DescribeTable("pods that name what is governed are refused meanwhile, by",
		func(ctx SpecContext, pod func() *builders.PodBuilder) {
			Expect(c.Create(ctx, pod().Obj())).To(beRefused())
		},
		Entry("container", func() *builders.PodBuilder { return modelPod("any") }),
		Entry("governed repository", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", "registry.example.com/governed/any")
		}),
		Entry("host in upper case", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", "REGISTRY.example.com:0443/models/chat")
		}),
		Entry("init container", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).InitContainer("init", chatImage)
		}),
		Entry("image volume", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).ImageVolume("weights", chatImage, "main")
		}),
		Entry("image's ID", func() *builders.PodBuilder { return builders.Pod("ml", "any").Container("main", "sha256:01ab") }),
		Entry("argument", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).Args("main", "oci://"+chatImage)
		}),
		Entry("command of an init container", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).InitContainer("init", plainImage).Command("init", "get", "OCI+Native://"+chatImage)
		}),
		Entry("variable", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).Env("main", "MODEL", "modelcar://"+chatImage)
		}),
		Entry("volume of our driver", func() *builders.PodBuilder {
			return builders.Pod("ml", "any").Container("main", plainImage).KeyVolume("acme-chat", "main")
		}),
	)

	It("no governed image gets into a running pod, nor any other into one that runs a model", func(ctx SpecContext) {
		attach := func(image string) error {
			debugged := before["plain"].DeepCopy()
			debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", image).Obj().Spec.EphemeralContainers
			return c.SubResource("ephemeralcontainers").Update(ctx, debugged)
		}
		Expect(attach(chatImage)).To(beRefused())
		Expect(attach("sha256:01ab")).To(beRefused())
		swap := func(pod, image string) error {
			swapped := before[pod].DeepCopy()
			swapped.Spec.Containers[0].Image = image
			return c.Patch(ctx, swapped, client.MergeFrom(before[pod]))
		}
		Expect(swap("plain", chatImage)).To(beRefused())
		Expect(swap("swapped", plainImage)).To(beRefused(), "the object as it was counts too")
	}, SpecTimeout(specTimeout))

	It("resizing waits for nobody where no model runs", func(ctx SpecContext) {
		resize := func(name string) error {
			resized := before[name].DeepCopy()
			Expect(c.Get(ctx, client.ObjectKeyFromObject(resized), resized)).To(Succeed())
			resized.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2")
			return c.SubResource("resize").Update(ctx, resized)
		}
		err := resize("plain")
		if apierrors.IsNotFound(err) {
			return // This API server has no such subresource.
		}
		Expect(err).NotTo(HaveOccurred())
		Expect(resize("swapped")).To(beRefused())
	}, SpecTimeout(specTimeout))

	for _, name := range []string{"model", "large"} {
		It("metadata and status of a "+name+" pod are written, and it can be deleted", func(ctx SpecContext) {
			pod := before[name]
			change := func(how func()) error {
				before := pod.DeepCopy()
				how()
				return c.Patch(ctx, pod, client.MergeFrom(before))
			}
			Expect(change(func() { pod.Labels = map[string]string{"team": "vision"} })).To(Succeed())
			Expect(change(func() { pod.Annotations = map[string]string{"note": "kept"} })).To(Succeed())
			pod.Status.Phase = corev1.PodFailed
			Expect(c.Status().Update(ctx, pod)).To(Succeed())
			Expect(c.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
			Expect(change(func() { pod.Finalizers = nil })).To(Succeed())
			Eventually(func() bool {
				return apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(pod), pod))
			}).WithContext(ctx).Should(BeTrue())
		}, SpecTimeout(specTimeout))
	}

	It("namespaces that are exempt go on", func(ctx SpecContext) {
		Expect(c.Create(ctx, builders.Pod("kube-system", "dns").Container("main", chatImage).Obj())).To(Succeed())
		Expect(c.Create(ctx, builders.Pod(operatorNamespace, "operator").Container("main", chatImage).Obj())).To(Succeed())
		tenant := builders.Namespace("tenant").Label("kubernetes.io/metadata.name", "kube-system").Obj()
		Expect(c.Create(ctx, tenant)).To(Succeed())
		Expect(c.Create(ctx, builders.Pod("tenant", "any").Container("main", chatImage).Obj())).To(beRefused(), "a namespace names itself exempt")
	}, SpecTimeout(specTimeout))

	It("kubelets report their static pods, and nobody else does so in their name", func(ctx SpecContext) {
		Expect(c.Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "pods"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:authenticated"}},
		})).To(Succeed())
		mirror := func(name string) *corev1.Pod {
			pod := modelPod(name).Annotation("kubernetes.io/config.mirror", "any").Obj()
			pod.Spec.NodeName = "a"
			return pod
		}
		Expect(actingAs(env.Config, "system:node:a", "system:nodes").Create(ctx, mirror("mirror"))).To(Succeed())
		Expect(actingAs(env.Config, "system:node:a").Create(ctx, mirror("forged"))).To(beRefused())
	}, SpecTimeout(specTimeout))

	It("ordinary pods live on when the API server is started again", func(ctx SpecContext) {
		Expect(env.ControlPlane.GetAPIServer().Stop()).To(Succeed())
		Expect(env.ControlPlane.GetAPIServer().Start()).To(Succeed())
		by.passes(ctx)
		Eventually(func() error { return c.Create(ctx, modelPod("any").Obj(), client.DryRunAll) }).WithContext(ctx).Should(beRefused())
	}, SpecTimeout(specTimeout))

	It("no governed pod slips in while the API server starts", func(ctx SpecContext) {
		Expect(env.ControlPlane.GetAPIServer().Stop()).To(Succeed())
		started := make(chan error, 1)
		go func() { started <- env.ControlPlane.GetAPIServer().Start() }()
		for running := true; running; {
			select {
			case err := <-started:
				Expect(err).NotTo(HaveOccurred())
				running = false
			default:
				Expect(c.Create(ctx, modelPod("slipped").Obj())).NotTo(Succeed())
			}
		}
		Expect(c.Create(ctx, modelPod("slipped").Obj())).NotTo(Succeed())
		by.passes(ctx)
	}, SpecTimeout(specTimeout))

	It("ordinary pods live on when etcd is started again", func(ctx SpecContext) {
		Expect(env.ControlPlane.Etcd.Stop()).To(Succeed())
		Expect(env.ControlPlane.Etcd.Start()).To(Succeed())
		by.passes(ctx)
		Eventually(func() error { return c.Create(ctx, modelPod("any").Obj(), client.DryRunAll) }).WithContext(ctx).Should(beRefused())
	}, SpecTimeout(specTimeout))

	It("ordinary pods live on when the operator's namespace is deleted", func(ctx SpecContext) {
		Expect(c.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}})).To(Succeed())
		by.passes(ctx)
		Expect(c.Create(ctx, modelPod("any").Obj())).To(beRefused())
	}, SpecTimeout(specTimeout))

	It("ordinary pods live on when a licence is deleted, which frees its images once the operator is back", func(ctx SpecContext) {
		Expect(c.Delete(ctx, chat())).To(Succeed())
		by.passes(ctx)
		Expect(c.Create(ctx, modelPod("any").Obj())).To(beRefused(), "nobody is there to change the configurations")
		line.close()
		operator := startOperator(ctx, env, "registry.example.com/governed/**")
		Eventually(func() error { return c.Create(ctx, modelPod("").GenerateName("free-").Obj()) }).WithContext(ctx).Should(Succeed())
		by.passes(ctx)
		Expect(operator.reviews.of("ordinary-")).To(BeEmpty())
	}, SpecTimeout(specTimeout))

	It("ordinary pods live on when the clock jumps past a licence's end, and its images stay refused", func(ctx SpecContext) {
		operator := startOperator(ctx, env, "registry.example.com/governed/**")
		ending := chat()
		end := metav1.NewTime(time.Now().Add(time.Hour))
		ending.Spec.Terms.NotAfter = &end
		operator.write(ctx, ending, builders.Grant("ml", "chat", "acme-chat").ServiceAccount("llm").Obj())
		Eventually(func() error { return c.Create(ctx, modelPod("any").Obj(), client.DryRunAll) }).WithContext(ctx).Should(Succeed())
		operator.clock.jump(2 * time.Hour)
		Expect(c.Create(ctx, modelPod("any").Obj())).To(beDenied(v1alpha1.ReasonExpired))
		by.passes(ctx)
		Expect(operator.reviews.of("ordinary-")).To(BeEmpty())
		GinkgoWriter.Println("the slowest round took", by.slowest)
	}, SpecTimeout(specTimeout))

	It("counted all the while, no expression failed", func(ctx SpecContext) {
		Expect(apiServerMetric(ctx, env.Config, "apiserver_admission_match_condition_evaluation_errors_total", "")).To(BeZero())
	})
})
