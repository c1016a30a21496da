package integration

import (
	"context"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/test/builders"
)

// operatorAccount is the user that the operator is in a cluster.
const operatorAccount = "system:serviceaccount:" + operatorNamespace + ":modelrights-operator"

var _ = Describe("The operator's own steps in the API server", Ordered, ContinueOnFailure, func() {
	const image = "registry.example.com/models/chat:1"
	var f *filtered

	as := func(user string) client.Client {
		config := rest.CopyConfig(f.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters", "system:authenticated"}}
		return clientOf(config)
	}

	BeforeAll(func(ctx SpecContext) {
		f = startFiltered(ctx)
		Expect(f.client.Create(ctx, builders.Namespace("ml").Obj())).To(Succeed())
	}, NodeTimeout(specTimeout))

	// waiting stores a pod that waits for its seat, while nothing is governed, and then governs its image.
	waiting := func(ctx context.Context, name string) *corev1.Pod {
		GinkgoHelper()
		f.install(ctx)
		pod := builders.Pod("ml", name).Container("main", image).Container("side", plainImage).Gate().Gate("example.com/other").Obj()
		Eventually(func() error { return f.client.Create(ctx, pod) }).WithContext(ctx).Should(Or(Succeed(), Satisfy(apierrors.IsAlreadyExists)))
		f.install(ctx, "registry.example.com/models/**")
		return pod
	}
	ungate := func(p *corev1.Pod) {
		p.Spec.SchedulingGates = slices.DeleteFunc(p.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SeatGate })
	}

	It("are not sent to the operator where they let a pod go, confined to nodes", func(ctx SpecContext) {
		pod := waiting(ctx, "let-go")
		before := pod.DeepCopy()
		ungate(pod)
		pod.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "n1"}
		Expect(as(operatorAccount).Patch(ctx, pod, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))).To(Succeed())
		Expect(pod.Spec.SchedulingGates).To(HaveLen(1))
	})

	DescribeTable("are sent", func(ctx SpecContext, name, user string, change func(*corev1.Pod)) {
		pod := waiting(ctx, name)
		change(pod)
		Expect(as(user).Update(ctx, pod)).To(beSent())
	},
		Entry("when another account makes them", "another", "system:serviceaccount:ml:modelrights-operator", ungate),
		Entry("when an administrator makes them", "admin", "kubernetes-admin", ungate),
		Entry("when an image changes on the way", "image", operatorAccount, func(p *corev1.Pod) {
			ungate(p)
			p.Spec.Containers[1].Image = "registry.example.com/models/other:1"
		}),
	)

	It("are sent when the operator's account creates a pod, or brings a container into one", func(ctx SpecContext) {
		c := as(operatorAccount)
		Expect(c.Create(ctx, builders.Pod("ml", "created").Container("main", image).Obj())).To(beSent())
		pod := waiting(ctx, "debugged")
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: plainImage}}}
		Expect(c.SubResource("ephemeralcontainers").Update(ctx, pod)).To(beSent())
	})

	It("leave the API server without an error in any expression", func(ctx SpecContext) {
		Expect(apiServerMetric(ctx, f.config, "apiserver_admission_match_condition_evaluation_errors_total", "")).To(BeZero())
		Expect(admissionconfig.ValidatingPods(operatorSettings(), admissionconfig.State{Filter: f.filter})[0].MatchConditions).To(HaveLen(3))
	})
})
