package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/internal/seats/count"
	"modelrights.dev/modelrights/test/builders"
)

// warnings gathers what the API server warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "\n")
}

// termSpecs are about seats, time, devices, nodes and enforcement at admission. Every spec has licence acme-chat and a grant
// of it, which it may replace.
func termSpecs(of **admission) {
	var a *admission
	var tenant client.Client
	const otherGate = "example.com/other"
	chat := func() *builders.LicenseBuilder {
		return builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v2").Namespaces("ml-prod")
	}
	grant := func() *builders.GrantBuilder {
		return builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm")
	}
	server := func() *builders.PodBuilder {
		return builders.Pod("ml-prod", "").GenerateName("terms-").ServiceAccount("llm").Container("main", chatImage)
	}
	create := func(ctx SpecContext, b *builders.PodBuilder) error { return tenant.Create(ctx, b.Obj()) }
	created := func(ctx SpecContext, b *builders.PodBuilder) *corev1.Pod {
		GinkgoHelper()
		pod := b.Obj()
		Expect(tenant.Create(ctx, pod)).To(Succeed())
		return pod
	}
	// licensed replaces the licence, and the grant.
	licensed := func(ctx SpecContext, l *builders.LicenseBuilder, g *builders.GrantBuilder) {
		GinkgoHelper()
		a.revoke(ctx, chat().Obj(), grant().Obj())
		a.write(ctx, l.Obj(), g.Obj())
	}
	patch := func(ctx SpecContext, c client.Client, pod *corev1.Pod, kind types.PatchType, text string) error {
		return c.Patch(ctx, pod.DeepCopy(), client.RawPatch(kind, []byte(text)))
	}
	binding := func() *corev1.Binding {
		return &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "any"}}
	}
	beRefusedByTheAPIServer := Or(WithTransform(apierrors.IsInvalid, BeTrue()), WithTransform(apierrors.IsForbidden, BeTrue()), WithTransform(apierrors.IsConflict, BeTrue()))

	BeforeEach(func() {
		a = *of
		tenant = a.asTenant()
	})

	It("makes covered pods wait, whether entitled or not, and lets the operator alone end that", func(ctx SpecContext) {
		pod := created(ctx, server().Gate(otherGate))
		Expect(pod.Spec.SchedulingGates).To(Equal([]corev1.PodSchedulingGate{{Name: otherGate}, {Name: v1alpha1.SeatGate}}))

		By("keeping tenants from it, however they write")
		for kind, text := range map[types.PatchType]string{
			types.MergePatchType:          `{"spec":{"schedulingGates":null}}`,
			types.JSONPatchType:           `[{"op":"remove","path":"/spec/schedulingGates/1"}]`,
			types.StrategicMergePatchType: `{"spec":{"schedulingGates":[{"$patch":"delete","name":"` + v1alpha1.SeatGate + `"}]}}`,
		} {
			Expect(patch(ctx, tenant, pod, kind, text)).To(beDenied(v1alpha1.ReasonGateRemoved, "kubectl get mlic acme-chat"), string(kind))
		}
		swapped := pod.DeepCopy()
		swapped.Spec.SchedulingGates, swapped.Spec.Containers[0].Image = nil, "registry.example.com/models/chat:3"
		Expect(tenant.Update(ctx, swapped)).To(beDenied(v1alpha1.ReasonGateRemoved))
		Expect(tenant.SubResource("binding").Create(ctx, pod.DeepCopy(), binding())).To(beRefusedByTheAPIServer)

		By("letting them remove their own")
		Expect(patch(ctx, tenant, pod, types.JSONPatchType, `[{"op":"remove","path":"/spec/schedulingGates/0"}]`)).To(Succeed())

		By("letting the operator")
		a.rights.freeze(true) // It does not wait for anything.
		Expect(patch(ctx, a.client, pod, types.MergePatchType, `{"spec":{"schedulingGates":null}}`)).To(Succeed())
	})

	It("lets a gate go that nothing asks for any more, and that of a pod that is going", func(ctx SpecContext) {
		orphan, going := created(ctx, server()), created(ctx, server().Finalizer("example.com/hold"))
		Expect(tenant.Delete(ctx, going)).To(Succeed())
		Expect(patch(ctx, tenant, going, types.MergePatchType, `{"spec":{"schedulingGates":null}}`)).To(Succeed())
		Expect(tenant.SubResource("binding").Create(ctx, going.DeepCopy(), binding())).To(beRefusedByTheAPIServer, "no node takes it any more")
		Expect(patch(ctx, tenant, going, types.MergePatchType, `{"metadata":{"finalizers":null}}`)).To(Succeed())
		a.revoke(ctx, chat().Obj(), grant().Obj())
		Expect(patch(ctx, tenant, orphan, types.MergePatchType, `{"spec":{"schedulingGates":null}}`)).To(Succeed())
	})

	It("refuses a pod that comes without the gate, which succeeds when it is tried again", func(ctx SpecContext) {
		a.rights.forget()
		Expect(create(ctx, server())).To(beDenied(v1alpha1.ReasonGateMissing, "try again"))
		Expect(created(ctx, server()).Spec.SchedulingGates).To(HaveLen(1))
	})

	It("refuses a pod that names its node, and takes one that chooses it as a DaemonSet does", func(ctx SpecContext) {
		Expect(create(ctx, server().NodeName("any"))).To(beDenied(v1alpha1.ReasonNodeNameSet, "nodeSelector or affinity"))
		Expect(create(ctx, builders.Pod("ml-prod", "").GenerateName("plain-").Container("main", plainImage).NodeName("any"))).To(Succeed())
		pod := server().Obj()
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"any"}},
			}}},
		}}}
		Expect(tenant.Create(ctx, pod)).To(Succeed())
		Expect(pod.Spec.SchedulingGates).To(HaveLen(1))
	})

	It("keeps pods to the licence's nodes", func(ctx SpecContext) {
		licensed(ctx, chat().NodeSelector("topology.kubernetes.io/region", "eu"), grant())
		pod := created(ctx, server().NodeSelector("own", "x"))
		Expect(pod.Spec.NodeSelector).To(Equal(map[string]string{"own": "x", "topology.kubernetes.io/region": "eu"}))
		Expect(create(ctx, server().NodeSelector("topology.kubernetes.io/region", "us"))).
			To(beDenied(v1alpha1.ReasonNodeSelectorConflict, "topology.kubernetes.io/region=eu", "remove topology.kubernetes.io/region"))

		By("keeping it while the pod waits")
		for _, text := range []string{
			`{"spec":{"nodeSelector":null}}`, `{"spec":{"nodeSelector":{"topology.kubernetes.io/region":null}}}`, `{"spec":{"nodeSelector":{"topology.kubernetes.io/region":"us"}}}`,
		} {
			Expect(patch(ctx, tenant, pod, types.MergePatchType, text)).To(beRefusedByTheAPIServer, text)
		}
		Expect(patch(ctx, tenant, pod, types.MergePatchType, `{"spec":{"nodeSelector":{"more":"y"}}}`)).To(Succeed())
	})

	It("lets no pod that runs begin to use a licence", func(ctx SpecContext) {
		pod := created(ctx, builders.Pod("ml-prod", "").GenerateName("plain-").ServiceAccount("llm").Container("main", plainImage))
		swapped := pod.DeepCopy()
		swapped.Spec.Containers[0].Image = chatImage
		Expect(tenant.Update(ctx, swapped)).To(beDenied(v1alpha1.ReasonGateMissing, "has no seat", "create a new pod"))
		debugged := pod.DeepCopy()
		debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", chatImage).Obj().Spec.EphemeralContainers
		Expect(tenant.SubResource("ephemeralcontainers").Update(ctx, debugged)).To(beDenied(v1alpha1.ReasonGateMissing))
	})

	DescribeTable("refuses new pods when the time has come",
		func(ctx SpecContext, l func(time.Time) *builders.LicenseBuilder, g func(time.Time) *builders.GrantBuilder, reason v1alpha1.Reason, says string) {
			now := time.Now().Truncate(time.Second)
			licensed(ctx, l(now), g(now))
			if reason == "" {
				Expect(create(ctx, server())).To(Succeed())
			} else {
				Expect(create(ctx, server())).To(beDenied(reason, says))
			}
		},
		Entry("suspended", func(time.Time) *builders.LicenseBuilder { return chat().Suspended() },
			func(time.Time) *builders.GrantBuilder { return grant() }, v1alpha1.ReasonSuspended, "spec.suspended"),
		Entry("in grace", func(now time.Time) *builders.LicenseBuilder {
			return chat().NotAfter(now.Add(-time.Hour)).Grace(2 * time.Hour)
		},
			func(time.Time) *builders.GrantBuilder { return grant() }, v1alpha1.ReasonInGrace, "graceAdmits: All"),
		Entry("in grace for everyone", func(now time.Time) *builders.LicenseBuilder {
			return chat().NotAfter(now.Add(-time.Hour)).Grace(2 * time.Hour).GraceAdmits(v1alpha1.GraceAdmitsAll)
		}, func(time.Time) *builders.GrantBuilder { return grant() }, v1alpha1.Reason(""), ""),
		Entry("grant not yet valid", func(time.Time) *builders.LicenseBuilder { return chat() },
			func(now time.Time) *builders.GrantBuilder { return grant().NotBefore(now.Add(time.Hour)) }, v1alpha1.ReasonGrantNotYetValid, "spec.notBefore"),
		Entry("grant expired", func(time.Time) *builders.LicenseBuilder { return chat() },
			func(now time.Time) *builders.GrantBuilder { return grant().NotAfter(now.Add(-time.Hour)) }, v1alpha1.ReasonGrantExpired, "spec.notAfter"),
	)

	It("refuses devices that the limits cannot count", func(ctx SpecContext) {
		licensed(ctx, chat().Limits("nvidia.com/gpu", "8"), grant())
		Expect(create(ctx, server().Requests("main", "nvidia.com/gpu", "1"))).To(Succeed())
		Expect(create(ctx, server().Requests("main", "nvidia.com/mig-1g.5gb", "1"))).To(beDenied(v1alpha1.ReasonUncountableDevice, "nvidia.com/mig-1g.5gb"))
		Expect(create(ctx, server().Requests("main", "amd.com/gpu", "1"))).To(Succeed())
		claiming := server().ResourceClaim("gpu", "gpu", "main").Obj()
		if err := tenant.Create(ctx, claiming); err != nil {
			Expect(err).To(beDenied(v1alpha1.ReasonUncountableDevice))
		} else { // 1.32 drops claims unless it is told otherwise, so that none is left to be counted.
			Expect(claiming.Spec.ResourceClaims).To(BeEmpty())
			Expect(a.minor()).To(BeNumerically("<", 34))
		}
		licensed(ctx, chat().Limits("nvidia.com/gpu", "8", "nvidia.com/mig-1g.5gb", "8"), grant())
		Expect(create(ctx, server().Requests("main", "nvidia.com/mig-1g.5gb", "1"))).To(Succeed())
	})

	Context("with seats that are taken", func() {
		// seat writes a ledger in which the pods hold seats, and waits until the webhooks see it.
		seat := func(ctx SpecContext, pods ...*corev1.Pod) {
			GinkgoHelper()
			var l v1alpha1.ModelLicense
			var g v1alpha1.ModelGrant
			Expect(a.client.Get(ctx, client.ObjectKey{Name: "acme-chat"}, &l)).To(Succeed())
			Expect(a.client.Get(ctx, client.ObjectKey{Namespace: "ml-prod", Name: "chat"}, &g)).To(Succeed())
			ledger := seats.Empty(&l)
			for _, pod := range pods {
				ledger.Apply(seats.Take{
					Pod: pod.UID, Grant: seats.Grant{Namespace: g.Namespace, Name: g.Name, UID: g.UID}, GrantLimits: g.Spec.Limits,
					Amount: count.AmountOf(pod, l.Spec.Terms.Limits), Generation: l.Generation, Since: time.Now(),
				})
			}
			Expect(ledger.Len()).To(Equal(len(pods)))
			object := &v1alpha1.ModelSeats{}
			object.Name = l.Name
			ledger.Encode(object)
			Expect(a.client.Create(ctx, object)).To(Succeed())
			DeferCleanup(func(ctx SpecContext) {
				Expect(a.client.Delete(ctx, object)).To(Succeed())
				Eventually(func() *seats.Ledger { return a.seats.Ledger(l.Name) }).Should(BeNil())
			})
			Eventually(func(g Gomega) {
				known := a.seats.Ledger(l.Name)
				g.Expect(known).NotTo(BeNil())
				g.Expect(known.Len()).To(Equal(len(pods)))
			}).Should(Succeed())
		}

		It("refuses a pod for which there is no seat, where the licence says so", func(ctx SpecContext) {
			licensed(ctx, chat().Limits("pods", "1").Overage(v1alpha1.OverageDeny), grant())
			seat(ctx, created(ctx, server()))
			Expect(create(ctx, server())).To(beDenied(v1alpha1.ReasonSeatsFull, "of the 1 that ModelLicense acme-chat allows 1 are in use", "terms.overage: Queue"))
		})

		It("lets it wait otherwise", func(ctx SpecContext) {
			licensed(ctx, chat().Limits("pods", "1"), grant())
			seat(ctx, created(ctx, server()))
			Expect(create(ctx, server())).To(Succeed())
		})

		It("refuses that a pod outgrows its licence", func(ctx SpecContext) {
			if !slices.Contains(podSubresources(a), "resize") {
				return // 1.32 has none.
			}
			licensed(ctx, chat().Limits("cpu", "4"), grant().Limits("cpu", "3"))
			pod := created(ctx, server().Requests("main", "cpu", "1"))
			seat(ctx, pod, created(ctx, server().Requests("main", "cpu", "1")))
			resize := func(cpu string) error {
				return tenant.SubResource("resize").Patch(ctx, pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType,
					fmt.Appendf(nil, `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q}}}]}}`, cpu)))
			}
			Expect(resize("5")).To(beDenied(v1alpha1.ReasonTooLarge, "ModelLicense acme-chat"))
			Expect(resize("2500m")).To(beDenied(v1alpha1.ReasonSeatsFull, "ModelGrant ml-prod/chat"))
			Expect(resize("2")).To(Succeed())
			a.revoke(ctx, chat().Obj(), grant().Obj())
			a.rights.freeze(true)
			Expect(resize("9")).To(Succeed(), "what is not licensed any more is nobody's to bound")
		})

		It("lets a pod that has its seat go on in grace, and begin none", func(ctx SpecContext) {
			licensed(ctx, chat().NotAfter(time.Now().Add(-time.Hour)).Grace(2*time.Hour).GraceAdmits(v1alpha1.GraceAdmitsAll), grant())
			held, other := created(ctx, server()), created(ctx, server())
			licensed(ctx, chat().NotAfter(time.Now().Add(-time.Hour)).Grace(2*time.Hour), grant())
			seat(ctx, held)
			for _, pod := range []*corev1.Pod{held, other} {
				pod.Spec.Containers[0].Image = "registry.example.com/models/chat:3"
			}
			Expect(tenant.Update(ctx, held)).To(Succeed())
			Expect(tenant.Update(ctx, other)).To(beDenied(v1alpha1.ReasonInGrace))
		})
	})

	DescribeTable("relaxes admission where the licence does",
		func(ctx SpecContext, mode v1alpha1.EnforcementMode, warned bool) {
			l := chat().Suspended().Enforcement(mode)
			licensed(ctx, l, grant())
			told := &warnings{}
			config := rest.CopyConfig(a.config)
			config.WarningHandlerWithContext = told
			pod := server().NodeName("any").Obj()
			Expect(clientOf(config).Create(ctx, pod)).To(Succeed())
			Expect(pod.Spec.SchedulingGates).To(BeEmpty())
			Expect(pod.Spec.Volumes).To(BeEmpty(), "it gets no key")
			if warned {
				Expect(told.text()).To(And(ContainSubstring("admitted all the same [Suspended]"), ContainSubstring("remove spec.suspended")))
			} else {
				Expect(told.text()).To(BeEmpty())
			}

			By("enforcing as soon as one licence that covers the image does")
			other := builders.License("acme-strict").Repository("registry.example.com/models/*").Namespaces("ml-prod").Obj()
			a.write(ctx, other)
			DeferCleanup(func(ctx SpecContext) { a.revoke(ctx, other) })
			Expect(create(ctx, server())).To(beDenied(v1alpha1.ReasonNoGrant, "acme-strict"))
		},
		Entry("Warn", v1alpha1.EnforcementWarn, true),
		Entry("Audit", v1alpha1.EnforcementAudit, false),
	)
}
