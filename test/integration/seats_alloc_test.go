package integration

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Seats", Ordered, ContinueOnFailure, func() {
	var w *seatsWorld

	BeforeAll(func(ctx SpecContext) {
		w = newSeatsWorld(ctx)
		w.lead(ctx, "operator-0")
	}, NodeTimeout(specTimeout))

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
		}).WithContext(ctx).WithPolling(500 * time.Millisecond).Should(Succeed())
		GinkgoWriter.Println("all told after", time.Since(began))
		for range 3 {
			w.ends(ctx, started...)
			started = w.seatsMatch(ctx, team, 10, licenses[0])
		}
		Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.GracePeriodSeconds(0))).To(Succeed())
		w.seatsMatch(ctx, team, 0, licenses[0])
	}, SpecTimeout(specTimeout))

	// starts waits until a pod has started.
	starts := func(ctx SpecContext, pod *corev1.Pod) {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			g.Expect(waits(pod)).To(BeFalse())
		}).WithContext(ctx).WithPolling(50 * time.Millisecond).Should(Succeed())
	}
	says := func(ctx SpecContext, pod *corev1.Pod, reason v1alpha1.Reason) {
		GinkgoHelper()
		Eventually(w.licensed(ctx, pod)).WithContext(ctx).Should(Equal("False " + string(reason)))
	}

	It("are kept by a rollout of 500 pods within 4, and beyond by surge alone", func(ctx SpecContext) {
		for _, test := range []struct{ pods, surge, most int }{{250, 0, 4}, {20, 2, 6}} {
			team, licenses := w.team(ctx, func(b *builders.LicenseBuilder) {
				pods(4)(b)
				if test.surge > 0 {
					b.Surge(int32(test.surge), time.Hour)
				}
			})
			guard := w.guard(team, licenses[0], test.most)
			revision := func(name string, n int) []*corev1.Pod {
				all := make([]*corev1.Pod, n)
				for i := range all {
					all[i] = gatedPod(team, fmt.Sprintf("llm-%s-%d", name, i), licenses[0]).Owner("apps/v1", "ReplicaSet", "llm-"+name, "rs-"+name).
						Label("pod-template-hash", name).Obj()
				}
				return all
			}
			before, after := revision("old", test.pods), revision("new", test.pods)
			w.createAll(ctx, before)
			w.seatsMatch(ctx, team, 4, licenses[0])
			w.createAll(ctx, after)
			if test.surge > 0 {
				Eventually(func() int { return w.ledger(ctx, licenses[0]).BeyondLimits() }).Should(Equal(test.surge))
			}
			Eventually(guard.peak).WithContext(ctx).Should(BeNumerically(">=", test.most))
			Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.MatchingLabels{"pod-template-hash": "old"},
				client.GracePeriodSeconds(0))).To(Succeed())
			if test.surge > 0 {
				// While old pods went, one by one, new ones may have begun beyond the limits. They run on until their period
				// is over, and make room by ending before.
				Eventually(func() int {
					started := w.started(ctx, team)
					w.ends(ctx, started[:max(0, len(started)-4)]...)
					return len(started)
				}).WithContext(ctx).WithPolling(time.Second).Should(Equal(4))
			}
			started := w.seatsMatch(ctx, team, 4, licenses[0])
			for _, pod := range started {
				Expect(pod.Labels).To(HaveKeyWithValue("pod-template-hash", "new"))
			}
			Expect(w.ledger(ctx, licenses[0]).BeyondLimits()).To(BeZero())
			Expect(guard.peak()).To(Equal(test.most))
			Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.GracePeriodSeconds(0))).To(Succeed())
		}
	}, SpecTimeout(specTimeout))

	It("are never exceeded by two operators that both believe to lead", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(3), pods(3))
		guards := []*watchman{w.guard(team, licenses[0], 3), w.guard(team, licenses[1], 3)}
		stop := w.lead(ctx, "operator-1")
		defer stop()
		long, err := time.ParseDuration(cmp.Or(os.Getenv("MODELRIGHTS_CHURN"), "60s"))
		Expect(err).NotTo(HaveOccurred())
		ended, n := 0, 0
		full := func() bool { return guards[0].peak() == 3 && guards[1].peak() == 3 }
		for began := time.Now(); time.Since(began) < long || ended <= 10 || !full(); {
			for len(w.stored(ctx, team)) < 20 {
				wants := [][]string{{licenses[0]}, {licenses[1]}, {licenses[0], licenses[1]}, {licenses[1], licenses[0]}}[n%4]
				w.create(ctx, gatedPod(team, fmt.Sprintf("llm-%d", n), wants...).Obj())
				n++
			}
			for i, pod := range w.stored(ctx, team) {
				if over(&pod) || i%7 == n%7 {
					Expect(client.IgnoreNotFound(w.client.Delete(ctx, &pod, client.GracePeriodSeconds(0)))).To(Succeed())
				} else if !waits(&pod) {
					before := client.StrategicMergeFrom(pod.DeepCopy())
					pod.Status.Phase = corev1.PodSucceeded
					Expect(client.IgnoreNotFound(w.client.Status().Patch(ctx, &pod, before))).To(Succeed())
					ended++
				}
			}
		}
		GinkgoWriter.Printf("%d pods created, %d ended in %v\n", n, ended, long)
		for _, guard := range guards {
			Expect(guard.peak()).To(Equal(3))
		}
		By("nothing is leaked")
		stop()
		Expect(w.client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(team), client.GracePeriodSeconds(0))).To(Succeed())
		w.seatsMatch(ctx, team, 0, licenses...)
	}, SpecTimeout(specTimeout))

	It("are all or none where two pods want two licences crosswise", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1), pods(1))
		a, b := licenses[0], licenses[1]
		w.createAll(ctx, []*corev1.Pod{gatedPod(team, "ab", a, b).Obj(), gatedPod(team, "ba", b, a).Obj()})
		started := w.seatsMatch(ctx, team, 1, a, b)
		first := started[0].Name
		w.ends(ctx, started...)
		Expect(w.seatsMatch(ctx, team, 1, a, b)[0].Name).NotTo(Equal(first))
	}, SpecTimeout(specTimeout))

	It("end with a pod that is deleted before its gate is removed, and do not pass to a later one of its name", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1))
		name := client.ObjectKey{Namespace: team, Name: "llm"}
		later := gatedPod(team, "llm", licenses[0]).Obj()
		var once sync.Once
		w.at(func(ctx context.Context, step controllers.SeatStep, pod types.NamespacedName) error {
			if step == controllers.StepBeforeUngate && pod == name {
				once.Do(func() {
					_ = w.client.Delete(ctx, gatedPod(team, "llm").Obj(), client.GracePeriodSeconds(0))
					_ = w.client.Create(ctx, later)
				})
			}
			return nil
		})
		earlier := gatedPod(team, "llm", licenses[0]).Obj()
		w.create(ctx, earlier)
		Eventually(func() types.UID { return later.UID }).ShouldNot(BeEmpty())
		started := w.seatsMatch(ctx, team, 1, licenses[0])
		Expect(started[0].UID).To(And(Equal(later.UID), Not(Equal(earlier.UID))))
	}, SpecTimeout(specTimeout))

	It("end no running pod when a licence is shrunk, and begin none", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(4))
		for i := range 6 {
			w.create(ctx, gatedPod(team, fmt.Sprintf("llm-%d", i), licenses[0]).Obj())
		}
		started := w.seatsMatch(ctx, team, 4, licenses[0])
		license := builders.License(licenses[0]).Obj()
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
		license.Spec.Terms.Limits[corev1.ResourcePods] = resource.MustParse("2")
		Expect(w.client.Update(ctx, license)).To(Succeed())
		Eventually(func() int { return w.ledger(ctx, licenses[0]).BeyondLimits() }).Should(Equal(2))
		w.ends(ctx, started[0], started[1])
		w.seatsMatch(ctx, team, 2, licenses[0])
		Consistently(func() int { return len(w.started(ctx, team)) }).WithTimeout(time.Second).Should(Equal(2))
		w.ends(ctx, started[2])
		w.seatsMatch(ctx, team, 2, licenses[0])
	}, SpecTimeout(specTimeout))

	It("are given back to pods that run when somebody edits the ledger, before anybody else has them", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(3))
		for i := range 5 {
			w.create(ctx, gatedPod(team, fmt.Sprintf("llm-%d", i), licenses[0]).Obj())
		}
		started := w.seatsMatch(ctx, team, 3, licenses[0])
		w.create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: team}})
		for _, pod := range started {
			w.bind(ctx, pod, team)
		}
		stored := &v1alpha1.ModelSeats{}
		for range 3 {
			Eventually(func() error {
				Expect(w.client.Get(ctx, client.ObjectKey{Name: licenses[0]}, stored)).To(Succeed())
				stored.Spec.Holders = nil
				return w.client.Update(ctx, stored)
			}).Should(Succeed())
			w.seatsMatch(ctx, team, 3, licenses[0])
		}
		By("even where the ledger is deleted")
		Expect(w.client.Delete(ctx, stored)).To(Succeed())
		Expect(uidsOf(w.seatsMatch(ctx, team, 3, licenses[0]))).To(ConsistOf(uidsOf(started)))
		Expect(w.ledger(ctx, licenses[0]).BeyondLimits()).To(BeZero())
	}, SpecTimeout(specTimeout))

	It("are adopted by pods that ran before, beyond the limits if need be", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1))
		for i := range 2 {
			pod := gatedPod(team, fmt.Sprintf("early-%d", i), licenses[0]).Obj()
			pod.Spec.SchedulingGates = nil
			w.create(ctx, pod)
		}
		w.seatsMatch(ctx, team, 2, licenses[0])
		Expect(w.ledger(ctx, licenses[0]).BeyondLimits()).To(Equal(1))
		late := gatedPod(team, "late", licenses[0]).Obj()
		w.create(ctx, late)
		says(ctx, late, v1alpha1.ReasonWaitingForSeat)
	}, SpecTimeout(specTimeout))

	It("wait for the gates of others, and go to nobody who lost the right to them or needs none", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(1), func(*builders.LicenseBuilder) {})
		gated := gatedPod(team, "gated", licenses[1]).Gate("example.com/other").Obj()
		holder, waiting := gatedPod(team, "holder", licenses[0]).Obj(), gatedPod(team, "waiting", licenses[0]).Obj()
		w.create(ctx, gated, holder)
		says(ctx, gated, v1alpha1.ReasonWaitingForGates)
		starts(ctx, holder)
		w.create(ctx, waiting)
		says(ctx, waiting, v1alpha1.ReasonWaitingForSeat)
		Eventually(w.told(ctx, "Pod", team, "waiting")).Should(ConsistOf(HavePrefix("WaitingForSeat position 1 ")))
		Expect(w.entries(ctx, waiting)).To(BeEmpty())

		before := client.MergeFrom(gated.DeepCopy())
		gated.Spec.SchedulingGates = gated.Spec.SchedulingGates[:1]
		Expect(gated.Spec.SchedulingGates[0].Name).To(Equal(v1alpha1.SeatGate))
		Expect(w.client.Patch(ctx, gated, before)).To(Succeed())
		starts(ctx, gated)

		Expect(w.client.Delete(ctx, &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "grant-" + licenses[0]}})).To(Succeed())
		says(ctx, waiting, v1alpha1.ReasonNoGrant)
		Expect(w.entries(ctx, waiting)).To(BeEmpty(), "a pod that waits is not found past admission")
		Expect(w.client.Delete(ctx, &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: licenses[0]}})).To(Succeed())
		starts(ctx, waiting)
	}, SpecTimeout(specTimeout))

	It("confine pods to nodes in use where no other is left", func(ctx SpecContext) {
		team, licenses := w.team(ctx, func(b *builders.LicenseBuilder) { b.Limits("nodes", "1") })
		first, second := gatedPod(team, "first", licenses[0]).Obj(), gatedPod(team, "second", licenses[0]).Obj()
		affinity := []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "gpu", Operator: corev1.NodeSelectorOpExists}}},
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "tpu", Operator: corev1.NodeSelectorOpExists}}},
		}
		second.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: affinity},
		}}
		w.create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + team, Labels: map[string]string{corev1.LabelHostname: "host-" + team}}}, first)
		starts(ctx, first)
		w.create(ctx, second, gatedPod(team, "third", licenses[0]).Obj())
		says(ctx, second, v1alpha1.ReasonWaitingForSeat)
		w.bind(ctx, first, "node-"+team)
		starts(ctx, second)
		host := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"host-" + team}}
		for i := range affinity {
			affinity[i].MatchExpressions = append(affinity[i].MatchExpressions, host)
		}
		Expect(second.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms).To(Equal(affinity))
		third := gatedPod(team, "third").Obj()
		starts(ctx, third)
		Expect(third.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms).
			To(Equal([]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{host}}}))
	}, SpecTimeout(specTimeout))

	Context("of groups", func() { groupSpecs(&w) })
	Context("of a queue", func() { queueSpecs(&w) })

	It("hold while the API server is started again under load", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(5))
		w.guard(team, licenses[0], 5)
		create := func(from, to int) {
			for i := from; i < to; i++ {
				pod := gatedPod(team, fmt.Sprintf("llm-%d", i), licenses[0]).Obj()
				Eventually(func() error { return client.IgnoreAlreadyExists(w.client.Create(ctx, pod)) }).WithContext(ctx).Should(Succeed())
			}
		}
		create(0, 30)
		w.killAPIServer()
		Expect(w.env.ControlPlane.GetAPIServer().Start()).To(Succeed())
		create(30, 60)
		started := w.seatsMatch(ctx, team, 5, licenses[0])
		w.ends(ctx, started...)
		w.seatsMatch(ctx, team, 5, licenses[0])
	}, SpecTimeout(specTimeout))
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
