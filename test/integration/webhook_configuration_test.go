package integration

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/test/builders"
)

// noLog is an audit log that forgets.
type noLog struct{}

func (noLog) Append(context.Context, audit.Entry) (int64, error) { return 0, nil }

var _ = Describe("Webhook configurations", Ordered, ContinueOnFailure, func() {
	var (
		env *envtest.Environment
		a   *admission
		key = client.ObjectKey{Name: admissionconfig.Pods}
	)
	license := func(name, repository string) *v1alpha1.ModelLicense {
		return builders.License(name).Repository(repository).Key("v1").Namespaces("ml").Obj()
	}
	validating := func(ctx context.Context) *admissionregistrationv1.ValidatingWebhookConfiguration {
		GinkgoHelper()
		found := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		Expect(a.client.Get(ctx, key, found)).To(Succeed())
		return found
	}
	// rewrite is what somebody writes into the configuration, which the operator may be writing too.
	rewrite := func(ctx context.Context, change func(*admissionregistrationv1.ValidatingWebhookConfiguration)) {
		GinkgoHelper()
		Expect(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			changed := validating(ctx)
			change(changed)
			return a.client.Update(ctx, changed, client.FieldOwner("somebody"))
		})).To(Succeed())
	}
	condition := func(ctx context.Context, name, kind string) func(Gomega) string {
		return func(g Gomega) string {
			var l v1alpha1.ModelLicense
			g.Expect(a.client.Get(ctx, client.ObjectKey{Name: name}, &l)).To(Succeed())
			found := meta.FindStatusCondition(l.Status.Conditions, kind)
			if found == nil {
				return ""
			}
			return string(found.Status) + " " + found.Reason + ": " + found.Message
		}
	}
	ready := func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/readyz", http.NoBody)
		if err != nil {
			return err
		}
		return a.configurations.Ready(request)
	}

	BeforeAll(func(ctx SpecContext) {
		env = &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		c := clientOf(config)
		applyConfig(ctx, c, "webhook")
		Expect(c.Create(ctx, builders.Namespace("ml").Obj())).To(Succeed())
		Expect(c.Create(ctx, builders.Namespace(operatorNamespace).Obj())).To(Succeed())
		a = startOperatorWith(ctx, env, func(mgr ctrl.Manager, coverage controllers.Coverage) {
			grants := &controllers.GrantReconciler{Client: mgr.GetClient(), Audit: noLog{}, Events: events.NewFakeRecorder(1000), Clock: clock.RealClock{}}
			Expect(grants.SetupWithManager(ctx, mgr)).To(Succeed())
			licenses := &controllers.LicenseReconciler{
				Client: mgr.GetClient(), Keys: keys.NewSecretSource(mgr.GetAPIReader(), operatorNamespace), Coverage: coverage,
				Namespace: operatorNamespace, Audit: noLog{}, Events: events.NewFakeRecorder(1000), Clock: clock.RealClock{},
			}
			Expect(licenses.SetupWithManager(ctx, mgr)).To(Succeed())
		})
		Expect(a.client.Create(ctx, license("acme-chat", "registry.example.com/models/chat"))).To(Succeed())
		a.inForce(ctx, "registry.example.com/models/chat")
	}, NodeTimeout(specTimeout))

	It("follow licences, which are ready when the API server sends their images", func(ctx SpecContext) {
		Eventually(condition(ctx, "acme-chat", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True AdmissionReady"))
		Expect(admissionconfig.FilterExpression(validating(ctx).Webhooks[0].MatchConditions)).To(ContainSubstring("models/chat"))

		Expect(a.client.Create(ctx, license("acme-code", "registry.example.com/other/code"))).To(Succeed())
		Eventually(condition(ctx, "acme-code", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True AdmissionReady"))
		Expect(admissionconfig.FilterExpression(validating(ctx).Webhooks[0].MatchConditions)).To(ContainSubstring("other/code"))
		Expect(a.client.Delete(ctx, license("acme-code", ""))).To(Succeed())
		Eventually(func() string { return admissionconfig.FilterExpression(validating(ctx).Webhooks[0].MatchConditions) }).
			WithContext(ctx).ShouldNot(ContainSubstring("other/code"))
	}, SpecTimeout(specTimeout))

	It("are not written where nothing changes", func(ctx SpecContext) {
		before := validating(ctx).ResourceVersion
		for i := range 20 {
			Expect(a.client.Create(ctx, license(fmt.Sprintf("again-%d", i), "registry.example.com/models/chat"))).To(Succeed())
		}
		Eventually(condition(ctx, "again-19", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True"))
		Expect(validating(ctx).ResourceVersion).To(Equal(before))
	}, SpecTimeout(specTimeout))

	DescribeTable("are put right when somebody",
		func(ctx SpecContext, change func(*admissionregistrationv1.ValidatingWebhookConfiguration)) {
			want := validating(ctx).Webhooks
			rewrite(ctx, change)
			Eventually(func() []admissionregistrationv1.ValidatingWebhook { return validating(ctx).Webhooks }).WithContext(ctx).
				Should(Equal(want))
			Eventually(func() error { return ready(ctx) }).WithContext(ctx).Should(Succeed())
			Eventually(condition(ctx, "acme-chat", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True"))
		},
		Entry("ignores failures", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].FailurePolicy = ptr.To(admissionregistrationv1.Ignore)
		}),
		Entry("exempts a namespace", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			expressions := c.Webhooks[0].NamespaceSelector.MatchExpressions
			expressions[0].Values = append(expressions[0].Values, "ml")
		}),
		Entry("exempts objects", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].ObjectSelector.MatchLabels = map[string]string{"never": "there"}
		}),
		Entry("removes the webhooks", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) { c.Webhooks = nil }),
		Entry("drops an ephemeral container's rule", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].Rules = c.Webhooks[0].Rules[:1]
		}),
		Entry("adds a condition", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].MatchConditions[1].Expression = "false"
		}),
		Entry("changes the CA", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].ClientConfig.CABundle = env.Config.CAData
		}),
	)

	It("leave webhooks of others alone", func(ctx SpecContext) {
		rewrite(ctx, func(changed *admissionregistrationv1.ValidatingWebhookConfiguration) {
			other := *changed.Webhooks[0].DeepCopy()
			other.Name, other.NamespaceSelector.MatchLabels = "validate.example.com", map[string]string{"never": "selected"}
			changed.Webhooks = append(changed.Webhooks, other)
		})
		Expect(a.client.Create(ctx, license("acme-more", "registry.example.com/more"))).To(Succeed())
		Eventually(condition(ctx, "acme-more", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True"))
		Expect(validating(ctx).Webhooks).To(HaveLen(2))
		rewrite(ctx, func(changed *admissionregistrationv1.ValidatingWebhookConfiguration) {
			changed.Webhooks = changed.Webhooks[:1]
		})
	}, SpecTimeout(specTimeout))

	It("say so where they are gone, and are written anew when they are back", func(ctx SpecContext) {
		gone := validating(ctx)
		Expect(a.client.Delete(ctx, gone)).To(Succeed())
		Eventually(condition(ctx, "acme-chat", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).
			Should(HavePrefix("False AdmissionPending: no pod is sent to the operator: the ValidatingWebhookConfiguration modelrights-pods does not exist; install the chart"))
		Expect(ready(ctx)).To(Succeed(), "the key service goes on")
		Consistently(func() error {
			return client.IgnoreNotFound(a.client.Get(ctx, key, &admissionregistrationv1.ValidatingWebhookConfiguration{}))
		}).Should(Succeed())
		for _, object := range configManifests("webhook") {
			if object.GetKind() == "ValidatingWebhookConfiguration" && object.GetName() == admissionconfig.Pods {
				Expect(a.client.Create(ctx, object)).To(Succeed())
			}
		}
		Eventually(condition(ctx, "acme-chat", v1alpha1.ConditionAdmissionReady)).WithContext(ctx).Should(HavePrefix("True"))
		a.inForce(ctx, "registry.example.com/models/chat")
	}, SpecTimeout(specTimeout))

	Context("with reviews of the largest size", func() {
		// manyImages has governed images in as many containers as a request takes.
		manyImages := func(name string, containers int) *corev1.Pod {
			pod := builders.Pod("ml", name).Obj()
			for i := range containers {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: fmt.Sprintf("registry.example.com/models/chat:%d", i)})
			}
			return pod
		}

		It("answers about 10,000 containers' images in time", func(ctx SpecContext) {
			start := time.Now()
			err := a.client.Create(ctx, manyImages("many", 10_000))
			Expect(err).To(beDenied(v1alpha1.ReasonNoGrant))
			Expect(len(err.Error())).To(BeNumerically("<", 16<<10), "the answer is bounded")
			GinkgoWriter.Println("10,000 containers took", time.Since(start))
		}, SpecTimeout(specTimeout))

		It("stays within bounds of memory and time when many come at once, and decides on others meanwhile", func(ctx SpecContext) {
			heap := func() uint64 {
				sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
				metrics.Read(sample)
				return sample[0].Value.Uint64()
			}
			runtime.GC()
			base := heap()
			var most atomic.Uint64
			sampling, stop := context.WithCancel(ctx)
			var sampled sync.WaitGroup
			sampled.Go(func() {
				for sampling.Err() == nil {
					most.Store(max(most.Load(), heap()))
					select {
					case <-sampling.Done():
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
			pod := manyImages("flood", 15_000)
			var flood sync.WaitGroup
			errs := make([]error, 12)
			for i := range errs {
				flood.Go(func() { errs[i] = a.client.Create(ctx, pod.DeepCopy()) })
			}
			start := time.Now()
			Expect(a.client.Create(ctx, builders.Pod("ml", "small").Container("main", "registry.example.com/models/chat:1").Obj())).To(beDenied(v1alpha1.ReasonNoGrant))
			small := time.Since(start)
			flood.Wait()
			stop()
			sampled.Wait()
			for _, err := range errs {
				if apierrors.IsTimeout(err) {
					continue // it was the API server that gave up
				}
				Expect(err).To(HaveOccurred())
				Expect(err.Error()).To(Or(ContainSubstring("modelrights: pod denied"), ContainSubstring("failed calling webhook"), ContainSubstring("Too many requests")))
			}
			GinkgoWriter.Printf("heap from %d to %d MiB, of which the client has a part; the small pod took %v\n", base>>20, most.Load()>>20, small)
			Expect(most.Load() - base).To(BeNumerically("<", 1<<30))
		}, SpecTimeout(specTimeout))
	})
})
