package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/rights"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Pods that lose their entitlement", Ordered, ContinueOnFailure, func() {
	var (
		w    *revocationWorld
		stop func()
	)

	BeforeAll(func(ctx SpecContext) {
		w = newRevocationWorld(ctx)
		stop = w.start(ctx, "operator-0")
	}, NodeTimeout(specTimeout))

	gone := func(ctx context.Context, pod *corev1.Pod) func() bool {
		return func() bool {
			err := w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)
			return apierrors.IsNotFound(err) || err == nil && !pod.DeletionTimestamp.IsZero()
		}
	}
	evict := func(l *builders.LicenseBuilder) { l.OnRevoke(v1alpha1.RevokeEvict) }

	It("lose the key and are evicted when their grant is deleted", func(ctx SpecContext) {
		t := w.team(ctx, evict, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		admitted := conditionOfPod(pod).Message
		began := time.Now()
		Expect(w.client.Delete(ctx, t.grant)).To(Succeed())
		Eventually(gone(ctx, pod)).WithPolling(5 * time.Millisecond).Should(BeTrue())
		GinkgoWriter.Printf("evicted after %s\n", time.Since(began))
		Expect(w.reasons(ctx, pod, audit.Revoked)).To(Equal([]v1alpha1.Reason{v1alpha1.ReasonNoGrant}))
		Eventually(func() []v1alpha1.Reason { return w.reasons(ctx, pod, audit.RevokedPodEnded) }).Should(Equal([]v1alpha1.Reason{v1alpha1.ReasonNoGrant}))
		Expect(pod.Annotations).To(HaveKey(v1alpha1.AnnotationAttention))
		Expect(conditionOfPod(pod).Message).To(ContainSubstring("[NoGrant]: "))
		for _, mark := range marksIn(admitted) {
			Expect(conditionOfPod(pod).Message).To(ContainSubstring(mark))
		}
		Eventually(w.told(ctx, "Pod", pod.Namespace, pod.Name)).
			Should(ContainElement(HavePrefix("RevokedPodEnded the pod was evicted")))
		Eventually(w.told(ctx, "ModelLicense", "", t.name)).
			Should(ContainElement(And(HavePrefix("Revoked pod "+t.name+"/llm lost"), ContainSubstring("[NoGrant]"))))
	})

	It("keep running where only the key is to be wiped, are asked again until it is, and get it back", func(ctx SpecContext) {
		t := w.team(ctx, nil, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Suspended = ptr.To(true) })
		w.revoked(ctx, pod, v1alpha1.ReasonSuspended)
		first := pod.Annotations[v1alpha1.AnnotationAttention]
		Eventually(func() string {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			return pod.Annotations[v1alpha1.AnnotationAttention]
		}).ShouldNot(Equal(first), "the node did not look and is not asked again")
		Expect(pod.DeletionTimestamp.IsZero()).To(BeTrue())
		Eventually(func() string {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(t.license), t.license)).To(Succeed())
			return meta.FindStatusCondition(t.license.Status.Conditions, v1alpha1.ConditionReady).Reason
		}).Should(Equal(string(v1alpha1.ReasonSuspended)))

		w.do(ctx, t, seats.Wipe{Pod: pod.UID})
		update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Suspended = nil })
		Eventually(w.licensed(ctx, pod)).Should(Equal("True Entitled"))
		Expect(w.reasons(ctx, pod, audit.Admitted)).To(HaveLen(1), "what is restored was not admitted twice")
		update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Suspended = ptr.To(true) })
		w.revoked(ctx, pod, v1alpha1.ReasonSuspended)
		Expect(w.reasons(ctx, pod, audit.Revoked)).To(HaveLen(2))
		Expect(w.reasons(ctx, pod, audit.RevokedPodEnded)).To(BeEmpty())
	})

	DescribeTable("whatever the cause, and have it back when that is undone", func(ctx SpecContext, reason v1alpha1.Reason, license func(*builders.LicenseBuilder), lose, undo func(context.Context, team, *corev1.Pod)) {
		t := w.team(ctx, license, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		other := w.team(ctx, nil, nil)
		bystander := w.runs(ctx, other, other.pod("other").Obj(), "n1")
		lose(ctx, t, pod)
		w.revoked(ctx, pod, reason)
		undo(ctx, t, pod)
		Eventually(w.licensed(ctx, pod)).Should(Equal("True Entitled"))
		Expect(w.condition(ctx, bystander, v1alpha1.PodConditionLicensed)).To(Equal("True Entitled"))
		Expect(w.reasons(ctx, bystander, audit.Revoked)).To(BeEmpty())
	},
		Entry("the licence is deleted", v1alpha1.ReasonLicenseMissing, nil,
			func(ctx context.Context, t team, _ *corev1.Pod) {
				Expect(w.client.Delete(ctx, t.license)).To(Succeed())
			},
			func(ctx context.Context, t team, _ *corev1.Pod) {
				t.license.ResourceVersion, t.license.UID = "", ""
				w.create(ctx, t.license)
			}),
		Entry("the grant is narrowed to other accounts", v1alpha1.ReasonSubjectNotGranted, nil,
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.grant, func(g *v1alpha1.ModelGrant) { g.Spec.Subjects[0].Name = "web" })
			},
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.grant, func(g *v1alpha1.ModelGrant) { g.Spec.Subjects[0].Name = "llm" })
			}),
		Entry("the grant is narrowed to other pods", v1alpha1.ReasonPodNotSelected, nil,
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.grant, func(g *v1alpha1.ModelGrant) {
					g.Spec.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
				})
			},
			func(ctx context.Context, _ team, pod *corev1.Pod) {
				update(ctx, w, pod, func(p *corev1.Pod) { p.Labels["app"] = "web" })
			}),
		Entry("the licence does not name the namespace any more, by its labels", v1alpha1.ReasonNamespaceNotAllowed,
			func(l *builders.LicenseBuilder) { l.NamespaceSelector(map[string]string{"team": "ml"}) },
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, builders.Namespace(t.name).Obj(), func(n *corev1.Namespace) { n.Labels["team"] = "web" })
			},
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, builders.Namespace(t.name).Obj(), func(n *corev1.Namespace) { n.Labels["team"] = "ml" })
			}),
		Entry("the node loses a label that the licence asks for", v1alpha1.ReasonNodeNotAllowed,
			func(l *builders.LicenseBuilder) { l.NodeSelector("region", "eu") },
			func(ctx context.Context, _ team, _ *corev1.Pod) {
				update(ctx, w, node("n1", ""), func(n *corev1.Node) { n.Labels["region"] = "us" })
			},
			func(ctx context.Context, _ team, _ *corev1.Pod) {
				update(ctx, w, node("n1", ""), func(n *corev1.Node) { n.Labels["region"] = "eu" })
			}),
		Entry("the licence asks for other nodes", v1alpha1.ReasonNodeNotAllowed, nil,
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) {
					l.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{"region": "us"}
				})
			},
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Terms.NodeSelector = nil })
			}),
		Entry("the licence is for other purposes", v1alpha1.ReasonPurposeNotLicensed, nil,
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Terms.Purposes[0] = v1alpha1.PurposeResearch })
			},
			func(ctx context.Context, t team, _ *corev1.Pod) {
				update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Terms.Purposes[0] = v1alpha1.PurposeInternal })
			}),
	)

	It("have it back though their seats have ended since, and get others", func(ctx SpecContext) {
		t := w.team(ctx, nil, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Suspended = ptr.To(true) })
		w.revoked(ctx, pod, v1alpha1.ReasonSuspended)
		w.do(ctx, t, seats.End{Pod: pod.UID, At: time.Now()})
		update(ctx, w, t.license, func(l *v1alpha1.ModelLicense) { l.Spec.Suspended = nil })
		Eventually(w.licensed(ctx, pod)).Should(Equal("True Entitled"))
		Eventually(func() []string {
			ledger := &v1alpha1.ModelSeats{}
			Expect(w.client.Get(ctx, client.ObjectKey{Name: t.name}, ledger)).To(Succeed())
			return ledger.Spec.Holders
		}).Should(HaveLen(1))
	})

	It("when their own labels change, which only then are other than what the grant selects", func(ctx SpecContext) {
		t := w.team(ctx, nil, func(g *builders.GrantBuilder) { g.PodSelector(map[string]string{"app": "llm"}) })
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		update(ctx, w, pod, func(p *corev1.Pod) { p.Labels["app"] = "web" })
		w.revoked(ctx, pod, v1alpha1.ReasonPodNotSelected)
	})

	It("when the licence ends, when its grace period does, or when the grant ends, by a timer and never before", func(ctx SpecContext) {
		over, inGrace, byGrant, inForce := w.team(ctx, nil, nil), w.team(ctx, nil, nil), w.team(ctx, nil, nil), w.team(ctx, nil, nil)
		all := []team{over, inGrace, byGrant, inForce}
		pods := make([]*corev1.Pod, len(all))
		for i, t := range all {
			pods[i] = w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		}
		// Ends are set once all run: how long that took must not matter.
		end := metav1.NewTime(time.Now().Add(4 * time.Second).Truncate(time.Second))
		earlier := metav1.NewTime(end.Add(-2 * time.Second))
		update(ctx, w, over.license, func(l *v1alpha1.ModelLicense) { l.Spec.Terms.NotAfter = &end })
		update(ctx, w, inGrace.license, func(l *v1alpha1.ModelLicense) {
			l.Spec.Terms.NotAfter, l.Spec.Terms.GracePeriod = &earlier, &metav1.Duration{Duration: 3 * time.Second}
		})
		update(ctx, w, byGrant.grant, func(g *v1alpha1.ModelGrant) { g.Spec.NotAfter = &end })
		update(ctx, w, inForce.license, func(l *v1alpha1.ModelLicense) {
			l.Spec.Terms.NotAfter, l.Spec.Terms.GracePeriod = &end, &metav1.Duration{Duration: time.Hour}
		})
		for i, reason := range []v1alpha1.Reason{v1alpha1.ReasonExpired, v1alpha1.ReasonExpired, v1alpha1.ReasonGrantExpired} {
			w.revoked(ctx, pods[i], reason)
			due := end.Time
			if all[i].name == inGrace.name {
				due = end.Add(time.Second)
			}
			seen, err := time.Parse(time.RFC3339Nano, pods[i].Annotations[v1alpha1.AnnotationAttention])
			Expect(err).NotTo(HaveOccurred())
			GinkgoWriter.Printf("%s: looked at %s after its end\n", reason, seen.Sub(due))
			Expect(seen).To(BeTemporally(">=", due), "%s", reason)
		}
		Expect(w.condition(ctx, pods[3], v1alpha1.PodConditionLicensed)).To(Equal("True Entitled"), "its grace period runs")
	})

	It("when their surge is over, unless there is room by then", func(ctx SpecContext) {
		t := w.team(ctx, func(l *builders.LicenseBuilder) { l.Limits("pods", "1").Surge(1, time.Minute) }, nil)
		old := w.runs(ctx, t, t.pod("old").Obj(), "n1")
		// The seat is written while the pod has our gate, and another that keeps the allocator away: one without would be adopted.
		pod := t.pod("new").Gate().Gate("example.com/hold").Obj()
		w.create(ctx, pod)
		take := func(period time.Duration) seats.Take {
			return seats.Take{
				Pod: pod.UID, Grant: seats.Grant{Namespace: t.name, Name: t.grant.Name, UID: t.grant.UID}, Generation: t.license.Generation, Since: time.Now(),
				Amount: nil, Surge: &seats.SurgeFor{Pods: 1, Period: period, Replaces: []types.UID{old.UID}},
			}
		}
		w.do(ctx, t, take(time.Hour))
		update(ctx, w, pod, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil })
		w.bound(ctx, t, pod, "n1")
		// The surge is cut short once the pod runs: how long that took must not matter.
		w.do(ctx, t, seats.End{Pod: pod.UID, At: time.Now()}, take(2*time.Second), seats.Release{Pod: pod.UID, Node: "n1"})
		w.revoked(ctx, pod, v1alpha1.ReasonSurgeEnded)
		Expect(w.condition(ctx, old, v1alpha1.PodConditionLicensed)).To(Equal("True Entitled"))
		Expect(w.client.Delete(ctx, old, client.GracePeriodSeconds(0))).To(Succeed())
		w.do(ctx, t, seats.End{Pod: old.UID, At: time.Now()})
		Eventually(w.licensed(ctx, pod)).Should(Equal("True Entitled"))
	})

	It("are never evicted from protected namespaces", func(ctx SpecContext) {
		t := w.team(ctx, evict, nil)
		grant := builders.Grant("kube-system", t.name, t.name).ServiceAccount("llm").Obj()
		w.create(ctx, grant)
		pod := t.pod("llm-" + t.name).Obj()
		pod.Namespace = "kube-system"
		w.runs(ctx, t, pod, "n1")
		Expect(w.client.Delete(ctx, grant)).To(Succeed())
		w.revoked(ctx, pod, v1alpha1.ReasonNoGrant)
		Consistently(gone(ctx, pod)).WithTimeout(time.Second).Should(BeFalse())
		Expect(w.reasons(ctx, pod, audit.RevokedPodEnded)).To(BeEmpty())
	})

	It("are evicted as soon as a disruption budget allows it", func(ctx SpecContext) {
		t := w.team(ctx, evict, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		before := client.MergeFrom(pod.DeepCopy())
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}) // budgets hold no others
		Expect(w.client.Status().Patch(ctx, pod, before)).To(Succeed())
		budget := &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: t.name, Name: "all"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{}},
		}
		w.create(ctx, budget)
		budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, ExpectedPods: 1, CurrentHealthy: 1, DesiredHealthy: 1}
		Expect(w.client.Status().Update(ctx, budget)).To(Succeed())
		Expect(w.client.Delete(ctx, t.grant)).To(Succeed())
		w.revoked(ctx, pod, v1alpha1.ReasonNoGrant)
		Consistently(gone(ctx, pod)).WithTimeout(time.Second).Should(BeFalse())
		// What tells a budget's refusal from a failure is the cause of the one answer, and the words of the other.
		err := w.client.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{})
		Expect(apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause)).To(BeTrueBecause("a budget refuses: %v", err))
		another := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: t.name, Name: "another"}, Spec: *budget.Spec.DeepCopy()}
		w.create(ctx, another)
		err = w.client.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{})
		Expect(err).To(MatchError(ContainSubstring("has more than one PodDisruptionBudget")))
		Expect(err).To(HaveField("ErrStatus.Code", BeEquivalentTo(500)))
		Expect(w.client.Delete(ctx, another)).To(Succeed())
		Expect(w.client.Delete(ctx, budget)).To(Succeed())
		Eventually(gone(ctx, pod)).Should(BeTrue())
		Eventually(func() []v1alpha1.Reason { return w.reasons(ctx, pod, audit.RevokedPodEnded) }).Should(HaveLen(1))
	})

	It("are annotated, all that one grant had", func(ctx SpecContext) {
		const pods = 100
		t := w.team(ctx, nil, nil)
		var created []*corev1.Pod
		for i := range pods {
			created = append(created, t.pod(fmt.Sprintf("llm-%d", i)).Obj())
			w.create(ctx, created[i])
		}
		count := func(is func(*corev1.Pod) bool) func() int {
			return func() int {
				var list corev1.PodList
				Expect(w.client.List(ctx, &list, client.InNamespace(t.name))).To(Succeed())
				return len(slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !is(&p) }))
			}
		}
		admitted := count(func(p *corev1.Pod) bool {
			c := conditionOfPod(p)
			return c != nil && c.Status == corev1.ConditionTrue && p.Spec.NodeName != ""
		})
		revoked := count(func(p *corev1.Pod) bool {
			return p.Annotations[v1alpha1.AnnotationAttention] != "" && conditionOfPod(p).Reason == string(v1alpha1.ReasonRevoked)
		})
		for _, p := range created {
			Expect(w.client.SubResource("binding").Create(ctx, p, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})).To(Succeed())
		}
		Eventually(admitted).Should(Equal(pods))
		began := time.Now()
		Expect(w.client.Delete(ctx, t.grant)).To(Succeed())
		Eventually(revoked).WithPolling(50 * time.Millisecond).Should(Equal(pods))
		GinkgoWriter.Printf("%d pods were annotated within %s\n", pods, time.Since(began))
		Expect(w.all(ctx, audit.Revoked, t.name)).To(HaveLen(pods))
	}, SpecTimeout(specTimeout))

	It("are not revoked twice, nor for the operator's absence, and can be deleted with all that was granted while it is away", func(ctx SpecContext) {
		t, kept := w.team(ctx, evict, nil), w.team(ctx, nil, nil)
		pod, other := w.runs(ctx, t, t.pod("llm").Obj(), "n1"), w.runs(ctx, kept, kept.pod("llm").Obj(), "n1")
		wiping := w.team(ctx, nil, nil)
		wiped := w.runs(ctx, wiping, wiping.pod("llm").Obj(), "n1")
		again := w.team(ctx, nil, nil)
		revoked := w.runs(ctx, again, again.pod("llm").Obj(), "n1")
		Expect(w.client.Delete(ctx, again.grant)).To(Succeed())
		w.revoked(ctx, revoked, v1alpha1.ReasonNoGrant)
		stop()
		for _, o := range []client.Object{t.grant, t.license, wiping.license} {
			Expect(w.client.Delete(ctx, o)).To(Succeed())
			Expect(apierrors.IsNotFound(w.client.Get(ctx, client.ObjectKeyFromObject(o), o))).To(BeTrue(), "%T is held by somebody", o)
		}
		stop = w.start(ctx, "operator-1")
		Eventually(gone(ctx, pod)).Should(BeTrue())
		Expect(w.reasons(ctx, pod, audit.Revoked)).To(Equal([]v1alpha1.Reason{v1alpha1.ReasonLicenseMissing}))
		w.revoked(ctx, wiped, v1alpha1.ReasonLicenseMissing)
		Expect(gone(ctx, wiped)()).To(BeFalse(), "the ledger keeps that the key alone is to be wiped")
		Expect(w.condition(ctx, other, v1alpha1.PodConditionLicensed)).To(Equal("True Entitled"))
		Expect(w.reasons(ctx, other, audit.Revoked)).To(BeEmpty())
		Expect(w.reasons(ctx, revoked, audit.Revoked)).To(HaveLen(1))
	})

	It("are not revoked while it cannot be asked live", func(ctx SpecContext) {
		t := w.team(ctx, evict, nil)
		pod := w.runs(ctx, t, t.pod("llm").Obj(), "n1")
		stop()
		broken := &brokenRights{}
		broken.broken.Store(true)
		stop = w.start(ctx, "operator-2", func(s *rights.Store) controllers.Snapshots {
			broken.Snapshots = s
			return broken
		})
		Expect(w.client.Delete(ctx, t.grant)).To(Succeed())
		Eventually(broken.asked.Load).Should(BeNumerically(">", 2))
		Expect(gone(ctx, pod)()).To(BeFalse())
		Expect(w.condition(ctx, pod, v1alpha1.PodConditionLicensed)).To(Equal("True Entitled"))
		Expect(pod.Annotations).NotTo(HaveKey(v1alpha1.AnnotationAttention))
		broken.broken.Store(false)
		Eventually(gone(ctx, pod)).Should(BeTrue())
	})

	It("are told before: licences and grants say that their end is near, once", func(ctx SpecContext) {
		end := time.Now().Add(2 * 24 * time.Hour).Truncate(time.Second)
		t := w.team(ctx, func(l *builders.LicenseBuilder) { l.NotAfter(end.Add(24 * time.Hour)) }, func(g *builders.GrantBuilder) { g.NotAfter(end) })
		expiring := func(conditions func() []metav1.Condition, o client.Object) func() string {
			return func() string {
				Expect(w.client.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
				if c := meta.FindStatusCondition(conditions(), v1alpha1.ConditionExpiringSoon); c != nil {
					return c.Reason
				}
				return ""
			}
		}
		Eventually(expiring(func() []metav1.Condition { return t.license.Status.Conditions }, t.license)).Should(Equal("ExpiresIn3Days"))
		Eventually(expiring(func() []metav1.Condition { return t.grant.Status.Conditions }, t.grant)).Should(Equal("ExpiresIn3Days"))
		Expect(t.license.Status.Expires.Time).To(BeTemporally("==", end.Add(24*time.Hour)))
		Expect(t.grant.Status.Expires.Time).To(BeTemporally("==", end))
		told := func() int {
			all := append(w.told(ctx, "ModelLicense", "", t.name)(), w.told(ctx, "ModelGrant", t.name, "chat")()...)
			return len(slices.DeleteFunc(all, func(note string) bool { return !strings.HasPrefix(note, "ExpiresIn3Days") }))
		}
		Eventually(told).Should(Equal(2))
		stop()
		stop = w.start(ctx, "operator-3")
		update(ctx, w, t.grant, func(g *v1alpha1.ModelGrant) { g.Spec.NotAfter = ptr.To(metav1.NewTime(end.Add(time.Second))) })
		Eventually(func() time.Time {
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(t.grant), t.grant)).To(Succeed())
			return t.grant.Status.Expires.Time
		}).Should(BeTemporally("==", end.Add(time.Second)))
		Expect(told()).To(Equal(2), "the reason is the same")
	})
})

func conditionOfPod(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == v1alpha1.PodConditionLicensed {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
