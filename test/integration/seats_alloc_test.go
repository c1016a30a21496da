package integration

import (
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Seats", Ordered, func() {
	var w *seatsWorld

	BeforeAll(func(ctx SpecContext) {
		w = newSeatsWorld(ctx)
		w.lead(ctx, "operator-0")
	}, NodeTimeout(2*time.Minute))

	It("go to 10 of 1,000 pods that are created at once, and to others as those end", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(10))
		w.guard(team, licenses[0], 10)
		all := make([]*corev1.Pod, 1000)
		for i := range all {
			all[i] = gatedPod(team, fmt.Sprintf("llm-%d", i), licenses[0]).Obj()
		}
		began := time.Now()
		w.createAll(ctx, all)
		GinkgoWriter.Println("1,000 pods created in", time.Since(began))
		started := w.seatsMatch(ctx, team, 10, licenses[0])
		By("the others say that they wait, the first where, and who has the seats")
		Eventually(func(g Gomega) {
			waiting, positions := 0, 0
			for _, pod := range w.stored(ctx, team) {
				if !waits(&pod) {
					continue
				}
				c := conditionOf(&pod)
				g.Expect(c).NotTo(BeNil(), pod.Name)
				g.Expect(c.Reason).To(Equal(string(v1alpha1.ReasonWaitingForSeat)))
				g.Expect(c.Message).To(ContainSubstring("10 of 10"))
				g.Expect(c.Message).To(ContainSubstring(team + "/llm-"))
				waiting++
				if !slices.Contains([]string{"more"}, c.Message[:4]) {
					positions++
				}
			}
			g.Expect(waiting).To(Equal(990))
			g.Expect(positions).To(BeNumerically(">=", 20))
		}).WithContext(ctx).WithTimeout(30 * time.Second).WithPolling(500 * time.Millisecond).Should(Succeed())
		GinkgoWriter.Println("all told after", time.Since(began))
		for range 3 {
			w.ends(ctx, started...)
			started = w.seatsMatch(ctx, team, 10, licenses[0])
		}
		Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.GracePeriodSeconds(0))).To(Succeed())
		w.seatsMatch(ctx, team, 0, licenses[0])
	}, SpecTimeout(2*time.Minute))

	It("are taken by many pods a second where nothing limits them", func(ctx SpecContext) {
		team, licenses := w.team(ctx, func(*builders.LicenseBuilder) {})
		const n = 600
		all := make([]*corev1.Pod, n)
		for i := range all {
			all[i] = gatedPod(team, fmt.Sprintf("llm-%d", i), licenses[0]).Obj()
		}
		began := time.Now()
		w.createAll(ctx, all)
		created := time.Since(began)
		w.seatsMatch(ctx, team, n, licenses[0])
		GinkgoWriter.Printf("%d pods created in %v and let go after %v\n", n, created, time.Since(began))
		Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.GracePeriodSeconds(0))).To(Succeed())
	}, SpecTimeout(time.Minute))
})

// conditionOf is what a pod's condition says of its licences, or nil.
func conditionOf(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == v1alpha1.PodConditionLicensed {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
