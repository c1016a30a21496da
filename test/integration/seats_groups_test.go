package integration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// kueueGate is the scheduling gate of Kueue, which removes it when it admits a pod or its group.
const kueueGate = "kueue.x-k8s.io/admission"

// groupMember makes a pod that its licence's webhook let in one of a group of a size, marked as the group's project does.
type groupMember func(b *builders.PodBuilder, group string, index, size int) *builders.PodBuilder

func leaderWorkerSet(b *builders.PodBuilder, group string, index, size int) *builders.PodBuilder {
	return b.Label("leaderworkerset.sigs.k8s.io/name", group).Label("leaderworkerset.sigs.k8s.io/group-index", "0").
		Label("leaderworkerset.sigs.k8s.io/worker-index", fmt.Sprint(index)).Annotation("leaderworkerset.sigs.k8s.io/size", fmt.Sprint(size))
}

func jobSet(b *builders.PodBuilder, group string, index, _ int) *builders.PodBuilder {
	return b.Label("jobset.sigs.k8s.io/jobset-name", group).Label("jobset.sigs.k8s.io/replicatedjob-name", "workers").
		Label("jobset.sigs.k8s.io/job-index", fmt.Sprint(index)).Label("jobset.sigs.k8s.io/restart-attempt", "0")
}

func kueueGroup(b *builders.PodBuilder, group string, _, size int) *builders.PodBuilder {
	return b.Label("kueue.x-k8s.io/managed", "true").Label("kueue.x-k8s.io/pod-group-name", group).
		Annotation("kueue.x-k8s.io/pod-group-total-count", fmt.Sprint(size)).Gate(kueueGate)
}

// groupSpecs are about pods that start together or not at all.
func groupSpecs(of **seatsWorld) {
	var w *seatsWorld
	BeforeEach(func() { w = *of })

	// members creates the pods of a group, in the order of their licences.
	members := func(ctx SpecContext, as groupMember, namespace, group string, licenses ...string) []*corev1.Pod {
		GinkgoHelper()
		all := make([]*corev1.Pod, len(licenses))
		for i, license := range licenses {
			all[i] = as(gatedPod(namespace, fmt.Sprintf("%s-%d", group, i), license), group, i, len(licenses)).Obj()
		}
		w.create(ctx, objectsOf(all)...)
		return all
	}
	say := func(ctx SpecContext, pods []*corev1.Pod, reason v1alpha1.Reason, words ...string) {
		GinkgoHelper()
		for _, pod := range pods {
			Eventually(func(g Gomega) {
				g.Expect(w.licensed(ctx, pod)()).To(Equal("False " + string(reason)))
				for _, word := range words {
					g.Expect(conditionOf(pod).Message).To(ContainSubstring(word))
				}
			}).WithContext(ctx).WithPolling(50 * time.Millisecond).Should(Succeed())
		}
	}
	ungate := func(ctx SpecContext, pod *corev1.Pod, gate string) {
		GinkgoHelper()
		Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		before := client.MergeFromWithOptions(pod.DeepCopy(), client.MergeFromWithOptimisticLock{})
		pod.Spec.SchedulingGates = slices.DeleteFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == gate })
		Expect(w.client.Patch(ctx, pod, before)).To(Succeed())
	}

	DescribeTable("start with seats for all of them, in one go, and none with fewer",
		func(ctx SpecContext, as groupMember) {
			team, licenses := w.team(ctx, pods(3))
			w.guard(team, licenses[0], 3)
			w.create(ctx, gatedPod(team, "holder", licenses[0]).Obj())
			holder := w.seatsMatch(ctx, team, 1, licenses[0])
			group := members(ctx, as, team, "group", licenses[0], licenses[0], licenses[0])
			if hasGate(group[0], kueueGate) {
				say(ctx, group, v1alpha1.ReasonWaitingForGates, kueueGate)
				for _, pod := range group {
					ungate(ctx, pod, kueueGate)
				}
			}
			say(ctx, group, v1alpha1.ReasonWaitingForGroup, "its group of 3 pods starts together", "1 of 3 pods", team+"/holder")
			Eventually(w.told(ctx, "Pod", team, "group-0")).Should(ContainElement(HavePrefix("WaitingForGroup position ")))
			By("keeping two free seats from a pod that comes later")
			later := gatedPod(team, "later", licenses[0]).Obj()
			w.create(ctx, later)
			say(ctx, []*corev1.Pod{later}, v1alpha1.ReasonWaitingForSeat, "position 4 ")
			Expect(w.started(ctx, team)).To(HaveLen(1))

			w.ends(ctx, holder...)
			Expect(uidsOf(w.seatsMatch(ctx, team, 3, licenses[0]))).To(ConsistOf(uidsOf(group)))
			w.ends(ctx, w.started(ctx, team)...)
			Expect(uidsOf(w.seatsMatch(ctx, team, 1, licenses[0]))).To(ConsistOf(later.UID))
		},
		Entry("a LeaderWorkerSet", groupMember(leaderWorkerSet), SpecTimeout(specTimeout)),
		Entry("a JobSet", groupMember(jobSet), SpecTimeout(specTimeout)),
		Entry("a pod group of Kueue", groupMember(kueueGroup), SpecTimeout(specTimeout)),
	)

	It("keep room for workers that their leader has made when it starts", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(3))
		leader := leaderWorkerSet(gatedPod(team, "set-0", licenses[0]), "set", 0, 3).Obj()
		w.create(ctx, leader)
		w.seatsMatch(ctx, team, 1, licenses[0])
		other := gatedPod(team, "other", licenses[0]).Obj()
		w.create(ctx, other)
		say(ctx, []*corev1.Pod{other}, v1alpha1.ReasonWaitingForSeat, "position 1 ")
		for i := 1; i < 3; i++ {
			w.create(ctx, leaderWorkerSet(gatedPod(team, fmt.Sprintf("set-0-%d", i), licenses[0]), "set", i, 3).Obj())
		}
		for _, pod := range w.seatsMatch(ctx, team, 3, licenses[0]) {
			Expect(pod.Name).To(HavePrefix("set-0"))
		}
		w.ends(ctx, w.started(ctx, team)...)
		Expect(uidsOf(w.seatsMatch(ctx, team, 1, licenses[0]))).To(ConsistOf(other.UID))
	}, SpecTimeout(specTimeout))

	It("do not block each other for the last seats, which two want crosswise", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(2), pods(2))
		a, b := licenses[0], licenses[1]
		w.guard(team, a, 2)
		w.guard(team, b, 2)
		for _, license := range licenses {
			w.create(ctx, gatedPod(team, "holder-"+license, license).Obj())
		}
		holders := w.seatsMatch(ctx, team, 2)
		one := members(ctx, leaderWorkerSet, team, "one", a, b, a)
		two := members(ctx, kueueGroup, team, "two", b, a, b)
		for _, pod := range two {
			ungate(ctx, pod, kueueGate)
		}
		say(ctx, slices.Concat(one, two), v1alpha1.ReasonWaitingForGroup)
		w.ends(ctx, holders...)
		first := w.seatsMatch(ctx, team, 3)
		group, _, _ := strings.Cut(first[0].Name, "-")
		for _, pod := range first {
			Expect(pod.Name).To(HavePrefix(group))
		}
		w.ends(ctx, first...)
		for _, pod := range w.seatsMatch(ctx, team, 3) {
			Expect(pod.Name).NotTo(HavePrefix(group))
		}
		Expect(w.ledger(ctx, a).Len() + w.ledger(ctx, b).Len()).To(Equal(3))
	}, SpecTimeout(specTimeout))

	It("do not hold up others where they are larger than the limit, and start when it is raised", func(ctx SpecContext) {
		team, licenses := w.team(ctx, pods(2))
		large := members(ctx, leaderWorkerSet, team, "large", licenses[0], licenses[0], licenses[0])
		say(ctx, large, v1alpha1.ReasonTooLarge, "its group of 3 pods wants 3 pods", "allows 2")
		single := gatedPod(team, "single", licenses[0]).Obj()
		w.create(ctx, single)
		Expect(uidsOf(w.seatsMatch(ctx, team, 1, licenses[0]))).To(ConsistOf(single.UID))
		license := &v1alpha1.ModelLicense{}
		Expect(w.client.Get(ctx, client.ObjectKey{Name: licenses[0]}, license)).To(Succeed())
		license.Spec.Terms.Limits[corev1.ResourcePods] = resource.MustParse("4")
		Expect(w.client.Update(ctx, license)).To(Succeed())
		w.seatsMatch(ctx, team, 4, licenses[0])
	}, SpecTimeout(specTimeout))
}

func hasGate(pod *corev1.Pod, gate string) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == gate })
}

func objectsOf(pods []*corev1.Pod) []client.Object {
	objects := make([]client.Object, len(pods))
	for i, pod := range pods {
		objects[i] = pod
	}
	return objects
}
