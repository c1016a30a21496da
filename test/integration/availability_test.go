package integration

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/test/builders"
)

// The webhook configurations as they are installed, and nobody who answers.
var _ = Describe("While the operator is away", Ordered, func() {
	var c client.Client
	pods := map[string]*corev1.Pod{}

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		c = clientOf(startEnvironment(env))
		DeferCleanup(env.Stop)
		Expect(c.Create(ctx, builders.Namespace("ml").Obj())).To(Succeed())

		pods["plain"] = builders.Pod("ml", "plain").Container("main", "registry.example.com/tools/shell:1").Finalizer("example.com/wait").Obj()
		pods["swapped"] = builders.Pod("ml", "swapped").Container("main", "registry.example.com/tools/shell:1").Obj()
		// As large as etcd takes, so that comparing two of them is as dear as it can get.
		large := builders.Pod("ml", "large").Finalizer("example.com/wait")
		for i := range 20 {
			large.Container(fmt.Sprintf("c%d", i), "registry.example.com/tools/shell:1").Env(fmt.Sprintf("c%d", i), "FILLER", strings.Repeat("x", 60<<10))
		}
		pods["large"] = large.Obj()
		for _, pod := range pods {
			Expect(c.Create(ctx, pod)).To(Succeed())
		}
		applyConfig(ctx, c, "webhook")
		Eventually(func() error {
			return c.Create(ctx, builders.Pod("ml", "probe").Container("main", "registry.example.com/tools/shell:1").Obj(), client.DryRunAll)
		}).WithContext(ctx).WithTimeout(20*time.Second).ShouldNot(Succeed(), "the configurations are in force")
	}, NodeTimeout(2*time.Minute))

	for _, name := range []string{"plain", "large"} {
		It("metadata and status of a "+name+" pod are written, and it can be deleted", func(ctx SpecContext) {
			pod := pods[name]
			change := func(how func()) error {
				before := pod.DeepCopy()
				how()
				return c.Patch(ctx, pod, client.MergeFrom(before))
			}
			Expect(change(func() { pod.Labels = map[string]string{"team": "vision"} })).To(Succeed())
			Expect(change(func() { pod.Annotations = map[string]string{"note": "kept"} })).To(Succeed())
			Expect(c.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
			Expect(change(func() { pod.Finalizers = nil })).To(Succeed())
			Eventually(func() bool {
				return apierrors.IsNotFound(c.Get(ctx, client.ObjectKeyFromObject(pod), pod))
			}).WithContext(ctx).Should(BeTrue())
		}, SpecTimeout(30*time.Second))
	}

	It("no image gets into a pod undecided", func(ctx SpecContext) {
		pod := pods["swapped"]
		before := pod.DeepCopy()
		pod.Spec.Containers[0].Image = "registry.example.com/models/chat:2.1"
		Expect(c.Patch(ctx, pod, client.MergeFrom(before))).To(MatchError(ContainSubstring("validate.pods.modelrights.dev")))
	}, SpecTimeout(30*time.Second))

	It("namespaces that are exempt go on", func(ctx SpecContext) {
		Expect(c.Create(ctx, builders.Pod("kube-system", "dns").Container("main", "registry.example.com/tools/shell:1").Obj())).To(Succeed())
	}, SpecTimeout(30*time.Second))
})
