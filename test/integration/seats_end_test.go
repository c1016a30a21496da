package integration

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Seats end", Ordered, ContinueOnFailure, func() {
	const (
		lease = time.Hour
		full  = lease + time.Minute
		still = 300 * time.Millisecond
	)
	var w *endWorld
	BeforeAll(func(ctx SpecContext) { w = newEndWorld(ctx) }, NodeTimeout(specTimeout))
	BeforeEach(func() { w.clock.SetTime(time.Now().Truncate(time.Second)) }) // as the API server's stamps are

	eventually := func(ctx SpecContext, f any) AsyncAssertion {
		return Eventually(f).WithContext(ctx)
	}
	consistently := func(ctx SpecContext, f any) AsyncAssertion {
		return Consistently(f).WithContext(ctx).WithTimeout(still).WithPolling(50 * time.Millisecond)
	}

	It("at once where the pod was never bound, and not for a later pod of that name", func(ctx SpecContext) {
		license, grant := w.license(ctx, builders.License("unbound").Key("v1"))
		first := w.pod(ctx, builders.Pod("ml", "unbound").Gate())
		w.take(ctx, license, grant, first)
		w.pass(7 * time.Second)
		w.force(ctx, first)
		second := w.pod(ctx, builders.Pod("ml", "unbound").Gate())
		w.take(ctx, license, grant, second)
		eventually(ctx, w.seat(ctx, license, first.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("unbound PodGone 7"))
		consistently(ctx, w.seat(ctx, license, second.UID)).Should(Equal("held"))
		Expect(w.events(ctx, license)()).To(BeEmpty())
	})

	It("when no key was released and none can follow, where the pod was bound", func(ctx SpecContext) {
		w.node(ctx, "starting")
		license, grant := w.license(ctx, builders.License("starting").Key("v1"))
		pod := w.pod(ctx, builders.Pod("ml", "starting").NodeName("starting"))
		w.take(ctx, license, grant, pod)
		w.force(ctx, pod)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("starting PodGone 0"))
		Expect(w.events(ctx, license)()).To(BeEmpty())
	})

	It("with the lease where a pod is deleted by force while it runs", func(ctx SpecContext) {
		w.node(ctx, "forced")
		license, grant := w.license(ctx, builders.License("forced").Key("v1"))
		pod := w.pod(ctx, builders.Pod("ml", "forced").NodeName("forced"))
		w.release(ctx, license, grant, pod)
		w.phase(ctx, pod, corev1.PodRunning)
		consistently(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("on forced"))
		w.force(ctx, pod)
		consistently(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("on forced"), "its node may report")
		w.pass(10 * time.Second)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("until " + (full - 10*time.Second).String()))
		By("telling so in the status")
		eventually(ctx, func(g Gomega) {
			g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			g.Expect(license.Status.Seats).NotTo(BeNil())
			g.Expect(license.Status.Seats.Holders).To(ConsistOf(And(HaveField("Pod", ""), HaveField("Node", "forced"), HaveField("Until", Not(BeNil())))))
		}).Should(Succeed())
		w.pass(full - 11*time.Second)
		consistently(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("until 1s"))
		w.pass(time.Second)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("forced LeaseOver 3660"))
		eventually(ctx, w.events(ctx, license)).Should(ConsistOf(ContainSubstring("pod ml/forced on node forced ended: nothing shows")))
	})

	It("by the phase where the licence has no keys", func(ctx SpecContext) {
		w.node(ctx, "keyless")
		license, grant := w.license(ctx, builders.License("keyless"))
		done, killed := w.pod(ctx, builders.Pod("ml", "done").NodeName("keyless")), w.pod(ctx, builders.Pod("ml", "killed").NodeName("keyless"))
		for _, pod := range []*corev1.Pod{done, killed} {
			w.take(ctx, license, grant, pod)
			w.phase(ctx, pod, corev1.PodRunning)
		}
		w.pass(time.Minute)
		eventually(ctx, w.seat(ctx, license, killed.UID)).Should(Equal("on keyless"), "nobody else says so")
		w.phase(ctx, done, corev1.PodSucceeded)
		w.force(ctx, killed)
		eventually(ctx, w.seat(ctx, license, done.UID)).Should(Equal("none"))
		consistently(ctx, w.seat(ctx, license, killed.UID)).Should(Equal("on keyless"), "%v", w.ends(ctx, license)())
		w.pass(full)
		eventually(ctx, w.seat(ctx, license, killed.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("done PodGone 60", "killed LeaseOver 3720"))
	})

	It("with the node", func(ctx SpecContext) {
		deleted, dead := w.node(ctx, "deleted"), w.node(ctx, "dead")
		license, grant := w.license(ctx, builders.License("nodes").Key("v1"))
		one, two := w.pod(ctx, builders.Pod("ml", "one").NodeName("deleted")), w.pod(ctx, builders.Pod("ml", "two").NodeName("dead"))
		w.release(ctx, license, grant, one)
		w.release(ctx, license, grant, two)
		consistently(ctx, w.seat(ctx, license, one.UID)).Should(Equal("on deleted"))
		Expect(w.client.Delete(ctx, deleted)).To(Succeed())
		eventually(ctx, w.seat(ctx, license, one.UID)).Should(Equal("none"))
		Expect(w.seat(ctx, license, two.UID)()).To(Equal("on dead"))
		before := client.MergeFrom(dead.DeepCopy())
		dead.Spec.Taints = append(dead.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
		Expect(w.client.Patch(ctx, dead, before)).To(Succeed())
		eventually(ctx, w.seat(ctx, license, two.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("one NodeGone 0", "two NodeGone 0"))
		eventually(ctx, w.events(ctx, license)).Should(HaveLen(2))
	})

	It("with the pod that was confined to a node which is gone", func(ctx SpecContext) {
		node := w.node(ctx, "only")
		license, grant := w.license(ctx, builders.License("stranded").Key("v1").Limits("nodes", "1"))
		runs := w.pod(ctx, builders.Pod("ml", "runs-only").NodeName("only"))
		w.release(ctx, license, grant, runs)
		waits := builders.Pod("ml", "waits-only").Container("main", "registry.example.com/models/chat:v1").Obj()
		waits.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"only"}},
			}}},
		}}}
		Expect(w.client.Create(ctx, waits)).To(Succeed())
		w.take(ctx, license, grant, waits)
		consistently(ctx, w.seat(ctx, license, waits.UID)).Should(Equal("held"))
		Expect(w.client.Delete(ctx, node)).To(Succeed())
		eventually(ctx, w.seat(ctx, license, waits.UID)).Should(Equal("none"))
		eventually(ctx, w.ends(ctx, license)).Should(ConsistOf("runs-only NodeGone 0", "waits-only PodGone 0"))
		Expect(w.ledger(ctx, license).Nodes()).To(BeEmpty())
	})

	It("two leases after a node was cut off, unless it is back", func(ctx SpecContext) {
		node := w.node(ctx, "cut")
		license, grant := w.license(ctx, builders.License("cut").Key("v1"))
		pod := w.pod(ctx, builders.Pod("ml", "cut").NodeName("cut"))
		w.release(ctx, license, grant, pod)
		w.kubelet(ctx, node, corev1.ConditionUnknown)
		w.pass(lease - time.Second)
		consistently(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("on cut"))
		w.pass(time.Second)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("until " + full.String()))
		w.kubelet(ctx, node, corev1.ConditionTrue)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("on cut"))
		w.kubelet(ctx, node, corev1.ConditionUnknown)
		w.pass(lease)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("until " + full.String()))
		w.pass(full)
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("none"))
		Expect(w.ends(ctx, license)()).To(ConsistOf("cut LeaseOver 10860"))
	})

	It("of no pod because the operator was away", func(ctx SpecContext) {
		w.node(ctx, "away")
		license, grant := w.license(ctx, builders.License("away").Key("v1"))
		on := func(name, node string) *corev1.Pod {
			b := builders.Pod("ml", name)
			if node != "" {
				b.NodeName(node)
			}
			return w.pod(ctx, b)
		}
		runs, vanished, unbound := on("runs", "away"), on("vanished", "away"), on("unbound-away", "")
		w.release(ctx, license, grant, runs)
		w.release(ctx, license, grant, vanished)
		w.take(ctx, license, grant, unbound)
		written := types.UID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
		w.stop()
		w.force(ctx, vanished)
		w.force(ctx, unbound)
		By("having somebody write a pod that never was into the ledger")
		w.do(ctx, license, seats.Adopt{Pod: written, Grant: grantOf(grant), Node: "away", Since: w.clock.Now()})
		w.pass(30 * time.Minute)
		w.begin(ctx)
		w.lookedAt(ctx, license)
		consistently(ctx, w.seat(ctx, license, vanished.UID)).Should(Equal("on away"))
		w.pass(10 * time.Second)
		eventually(ctx, w.seat(ctx, license, unbound.UID)).Should(Equal("none"), "no key was released for it")
		eventually(ctx, w.seat(ctx, license, vanished.UID)).Should(Equal("until " + (full - 10*time.Second).String()))
		eventually(ctx, w.seat(ctx, license, written)).Should(Equal("until " + (full - 10*time.Second).String()))
		w.pass(full)
		eventually(ctx, w.seat(ctx, license, vanished.UID)).Should(Equal("none"))
		eventually(ctx, w.seat(ctx, license, written)).Should(Equal("none"))
		consistently(ctx, w.seat(ctx, license, runs.UID)).Should(Equal("on away"))
	})

	It("before the ledger of a deleted licence is removed, and what was used is told", func(ctx SpecContext) {
		w.node(ctx, "drained")
		license, grant := w.license(ctx, builders.License("drained").Key("v1"))
		pod := w.pod(ctx, builders.Pod("ml", "drained").NodeName("drained"))
		w.release(ctx, license, grant, pod)
		w.pass(time.Minute)
		Expect(w.client.Delete(ctx, license)).To(Succeed())
		consistently(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("on drained"))
		By("having its node report")
		w.do(ctx, license, seats.End{Pod: pod.UID, At: w.clock.Now()})
		eventually(ctx, w.seat(ctx, license, pod.UID)).Should(Equal("no ledger"))
		Expect(w.ends(ctx, license)()).To(ConsistOf(" LedgerClosed 60"))
		By("beginning anew with a licence of that name")
		again, grant := &v1alpha1.ModelLicense{}, grant
		*again = *builders.License("drained").Repository("registry.example.com/models/chat").Key("v1").Obj()
		Expect(w.client.Create(ctx, again)).To(Succeed())
		w.take(ctx, again, grant, pod)
		Expect(w.ledger(ctx, again).LicenseUID()).To(Equal(again.UID))
	})

	It("with a status that says who holds seats, who waits and what was used", func(ctx SpecContext) {
		w.node(ctx, "shown")
		license, grant := w.license(ctx, builders.License("shown").Key("v1").Limits("pods", "4", "nodes", "2"))
		seatsOf := func() *v1alpha1.SeatStatus {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			return license.Status.Seats
		}
		grantSeats := func() *v1alpha1.SeatStatus {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(grant), grant)).To(Succeed())
			return grant.Status.Seats
		}
		eventually(ctx, seatsOf).Should(HaveField("Summary", "0/4"), "nobody has used it yet")

		By("having pods wait while nobody has a seat yet")
		w.queue.set("shown", grantOf(grant), controllers.WaitingSeats{Pods: 3, Resources: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("3")}})
		eventually(ctx, seatsOf).Should(And(HaveField("Summary", "0/4"), HaveField("Waiting", int32(3))))
		pods := []*corev1.Pod{w.pod(ctx, builders.Pod("ml", "shown-1").NodeName("shown")), w.pod(ctx, builders.Pod("ml", "shown-2").NodeName("shown"))}
		for _, pod := range pods {
			w.take(ctx, license, grant, pod)
			w.pass(time.Second)
		}
		eventually(ctx, w.seat(ctx, license, pods[1].UID)).Should(Equal("on shown"), "nodes are limited, so that it matters at once")
		eventually(ctx, seatsOf).Should(And(
			HaveField("Summary", "2/4"), HaveField("Waiting", int32(3)), HaveField("BeyondLimits", int32(0)),
			HaveField("WaitingFor", HaveKey(corev1.ResourceName("nvidia.com/gpu"))),
			HaveField("InUse", HaveKeyWithValue(corev1.ResourceName("nodes"), resource.MustParse("1"))),
			HaveField("Holders", HaveExactElements(
				And(HaveField("Pod", "shown-1"), HaveField("Namespace", "ml"), HaveField("Node", "shown")), HaveField("Pod", "shown-2")))))
		eventually(ctx, grantSeats).Should(And(HaveField("Summary", "2"), HaveField("Waiting", int32(3)), HaveField("Holders", BeEmpty())))

		By("lowering the limit while nothing else happens")
		before := client.MergeFrom(license.DeepCopy())
		license.Spec.Terms.Limits["pods"] = resource.MustParse("1")
		Expect(w.client.Patch(ctx, license, before)).To(Succeed())
		eventually(ctx, func() corev1.ResourceList { return w.ledger(ctx, license).Limits() }).Should(HaveKeyWithValue(corev1.ResourcePods, resource.MustParse("1")))
		eventually(ctx, seatsOf).Should(And(HaveField("Summary", "2/1"), HaveField("BeyondLimits", int32(1))))
		eventually(ctx, func() *metav1.Condition {
			seatsOf()
			return meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionOverLimit)
		}).Should(And(HaveField("Status", metav1.ConditionTrue), HaveField("ObservedGeneration", license.Generation)))

		By("having others write the grant's status")
		beforeGrant := client.MergeFrom(grant.DeepCopy())
		grant.Spec.Purpose = v1alpha1.PurposeResearch
		grant.Spec.Limits = corev1.ResourceList{"pods": resource.MustParse("2")}
		Expect(w.client.Patch(ctx, grant, beforeGrant)).To(Succeed())
		eventually(ctx, grantSeats).Should(HaveField("Summary", "2/2"))
		Expect(meta.FindStatusCondition(grant.Status.Conditions, v1alpha1.ConditionReady)).NotTo(BeNil())

		By("ending a seat")
		w.queue.set("shown", grantOf(grant), controllers.WaitingSeats{})
		w.pass(time.Minute)
		w.force(ctx, pods[0])
		eventually(ctx, w.seat(ctx, license, pods[0].UID)).Should(Equal("none"))
		eventually(ctx, seatsOf).Should(And(HaveField("Summary", "1/1"), HaveField("Waiting", int32(0)), HaveField("WaitingFor", BeEmpty())))
		Expect(license.Status.Usage).To(HaveField("PodSeconds", BeNumerically(">=", 121)))
		eventually(ctx, grantSeats).Should(HaveField("Summary", "1/2"))
		Expect(grant.Status.Usage).To(HaveField("PodSeconds", BeNumerically(">=", 121)))
	})

	It("with a status that says that a ledger cannot be understood", func(ctx SpecContext) {
		license, grant := w.license(ctx, builders.License("edited").Key("v1"))
		pod := w.pod(ctx, builders.Pod("ml", "edited").Gate())
		w.take(ctx, license, grant, pod)
		var stored v1alpha1.ModelSeats
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), &stored)).To(Succeed())
		before := client.MergeFrom(stored.DeepCopy())
		stored.Spec.Holders = append(stored.Spec.Holders, "nonsense")
		Expect(w.client.Patch(ctx, &stored, before)).To(Succeed())
		over := func() *metav1.Condition {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			return meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionOverLimit)
		}
		eventually(ctx, over).Should(And(HaveField("Status", metav1.ConditionUnknown), HaveField("Reason", string(v1alpha1.ReasonLedgerUnreadable))))
		Expect(w.client.Delete(ctx, &stored)).To(Succeed())
		eventually(ctx, over).Should(HaveField("Status", metav1.ConditionFalse))
	})
})
