package integration

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// queueSpecs are about the order in which pods that wait get their seats, and about ledgers that somebody edits.
func queueSpecs(of **seatsWorld) {
	var w *seatsWorld
	BeforeEach(func() { w = *of })

	waiting := func(ctx SpecContext, pod *corev1.Pod, words ...string) {
		GinkgoHelper()
		w.create(ctx, pod)
		Eventually(func(g Gomega) {
			g.Expect(w.licensed(ctx, pod)()).To(Equal("False " + string(v1alpha1.ReasonWaitingForSeat)))
			for _, word := range words {
				g.Expect(conditionOf(pod).Message).To(ContainSubstring(word))
			}
		}).WithContext(ctx).Should(Succeed())
	}
	// nextSecond waits until the API server stamps objects with a later second.
	nextSecond := func(ctx SpecContext, pod *corev1.Pod) {
		GinkgoHelper()
		Eventually(func() time.Time {
			probe := builders.Pod(pod.Namespace, "probe").Container("main", "registry.example.com/any").Obj()
			Expect(w.client.Create(ctx, probe, client.DryRunAll)).To(Succeed())
			return probe.CreationTimestamp.Time
		}).WithContext(ctx).WithPolling(50 * time.Millisecond).Should(BeTemporally(">", pod.CreationTimestamp.Time))
	}
	onlyStarted := func(ctx SpecContext, license string, namespaces ...string) *corev1.Pod {
		GinkgoHelper()
		var only *corev1.Pod
		Eventually(func(g Gomega) {
			var all []*corev1.Pod
			for _, namespace := range namespaces {
				all = append(all, w.started(ctx, namespace)...)
			}
			g.Expect(all).To(HaveLen(1))
			only = all[0]
			g.Expect(holdersOf(w.ledger(ctx, license))).To(ConsistOf(only.UID))
		}).WithContext(ctx).Should(Succeed())
		return only
	}

	It("go by priority, then by age, and from grant to grant", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1))
		license, other := licenses[0], team+"-other"
		w.create(ctx, builders.Namespace(other).Obj(), builders.Grant(other, "chat", license).ServiceAccount("llm").Obj(),
			&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: team}, Value: 1000})
		w.create(ctx, gatedPod(team, "holder", license).Obj())
		holder := onlyStarted(ctx, license, team)
		old := gatedPod(team, "old", license).Obj()
		waiting(ctx, old, "position 1 ", "1 of 1 pods", "by "+team+"/holder")
		nextSecond(ctx, old)
		elsewhere := gatedPod(other, "elsewhere", license).Obj()
		waiting(ctx, elsewhere, "position 1 ") // its grant holds none
		nextSecond(ctx, elsewhere)
		young, urgent := gatedPod(team, "young", license).Obj(), gatedPod(team, "urgent", license).Obj()
		urgent.Spec.PriorityClassName = team
		waiting(ctx, young, "position 3 ")
		waiting(ctx, urgent, "position 2 ")
		for _, next := range []string{"elsewhere", "urgent", "old", "young"} {
			w.ends(ctx, holder)
			holder = onlyStarted(ctx, license, team, other)
			Expect(holder.Name).To(Equal(next))
		}
	}, SpecTimeout(specTimeout))

	It("are counted by the licence, whatever somebody writes into the ledger", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1))
		w.create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mirrors-" + team}})
		mirror := builders.Pod(team, "mirror").Container("c0", modelOf(licenses[0])+":1").NodeName("mirrors-"+team).
			Annotation(corev1.MirrorPodAnnotationKey, "a").Obj()
		w.create(ctx, mirror, gatedPod(team, "holder", licenses[0]).Obj())
		Eventually(func() []string { // the static pod, under no account that is granted, holds none
			var names []string
			for _, uid := range holdersOf(w.ledger(ctx, licenses[0])) {
				names = append(names, string(uid))
			}
			return names
		}).WithContext(ctx).Should(HaveLen(1))
		Eventually(w.licensed(ctx, mirror)).WithContext(ctx).Should(Equal("False " + string(v1alpha1.ReasonSubjectNotGranted)))
		_, held := w.ledger(ctx, licenses[0]).Holder(mirror.UID)
		Expect(held).To(BeFalse())
		late := gatedPod(team, "late", licenses[0]).Obj()
		waiting(ctx, late)
		edit := func(change func(*v1alpha1.ModelSeats)) {
			GinkgoHelper()
			Eventually(func() error {
				stored := &v1alpha1.ModelSeats{}
				Expect(w.client.Get(ctx, client.ObjectKey{Name: licenses[0]}, stored)).To(Succeed())
				change(stored)
				return w.client.Update(ctx, stored)
			}).WithContext(ctx).Should(Succeed())
		}
		for _, change := range []func(*v1alpha1.ModelSeats){
			func(s *v1alpha1.ModelSeats) { s.Spec.Limits = corev1.ResourceList{"pods": resource.MustParse("100")} },
			func(s *v1alpha1.ModelSeats) {
				s.Spec.Limits, s.Spec.LicenseGeneration = corev1.ResourceList{"pods": resource.MustParse("100")}, 1000
			},
		} {
			edit(change)
			Eventually(func() string {
				limit := w.ledger(ctx, licenses[0]).Limits()[corev1.ResourcePods]
				return limit.String()
			}).WithContext(ctx).Should(Equal("1"))
			Expect(w.ledger(ctx, licenses[0]).Generation()).To(BeEquivalentTo(1))
			Expect(waitsStill(ctx, w, late)).To(BeTrue())
		}
		By("leaving garbage alone, and starting nothing")
		var before []string
		edit(func(s *v1alpha1.ModelSeats) { before, s.Spec.Holders = s.Spec.Holders, []string{"garbage"} })
		for _, pod := range w.started(ctx, team) {
			if pod.Name == "holder" {
				w.ends(ctx, pod)
			}
		}
		Consistently(func() bool { return waitsStill(ctx, w, late) }).WithTimeout(time.Second).Should(BeTrue())
		edit(func(s *v1alpha1.ModelSeats) { s.Spec.Holders = before })
		Eventually(func() bool { return waitsStill(ctx, w, late) }).WithContext(ctx).Should(BeFalse())
	}, SpecTimeout(specTimeout))
}

func waitsStill(ctx SpecContext, w *seatsWorld, pod *corev1.Pod) bool {
	GinkgoHelper()
	Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	return waits(pod)
}
