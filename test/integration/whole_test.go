package integration

import (
	"context"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("With webhooks, policies and controllers together", Ordered, ContinueOnFailure, func() {
	var w *wholeWorld
	BeforeAll(func(ctx SpecContext) { w = newWholeWorld(ctx) })

	patched := func(ctx context.Context, pod *corev1.Pod, text string) error {
		return w.tenant.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(text)))
	}

	It("a pod that is resized counts for what it has, and leaves room for others when it has less", func(ctx SpecContext) {
		if !slices.Contains(podSubresources(w.admission), "resize") {
			return // 1.32 has none.
		}
		w.team(ctx, "resized", func(b *builders.LicenseBuilder) { b.Limits("cpu", "4", "memory", "8Gi") })
		pod, other := w.pod("resized", "grows").Requests("main", "cpu", "1", "memory", "1Gi").Obj(), w.pod("resized", "stays").Requests("main", "cpu", "1", "memory", "1Gi").Obj()
		for _, p := range []*corev1.Pod{pod, other} {
			Expect(w.tenant.Create(ctx, p)).To(Succeed())
			w.stands(ctx, p, "True Entitled")
			w.runs(ctx, p)
		}
		Eventually(w.held("resized", "cpu")).Should(Equal("2"))
		resize := func(cpu, memory string) error {
			return w.tenant.SubResource("resize").Patch(ctx, pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType,
				fmt.Appendf(nil, `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q,"memory":%q}}}]}}`, cpu, memory)))
		}
		Expect(resize("5", "1Gi")).To(beDenied(v1alpha1.ReasonTooLarge, "ModelLicense resized", "cpu"))
		Expect(resize("1", "7500Mi")).To(beDenied(v1alpha1.ReasonSeatsFull, "ModelLicense resized", "memory"))
		Expect(w.held("resized", "cpu")()).To(Equal("2"))
		Expect(resize("3", "2Gi")).To(Succeed())
		Eventually(w.held("resized", "cpu")).Should(Equal("4"))
		Expect(w.held("resized", "memory")()).To(Equal("3Gi"))
		Eventually(w.told(ctx, "Pod", "resized", "grows")).Should(ContainElement(And(HavePrefix("PodResized "), ContainSubstring("counts for 3 cpu"), ContainSubstring("instead of 1 cpu"))))
		w.kubelet(ctx, pod, corev1.PodRunning)

		By("having another wait for what it has")
		next := w.pod("resized", "next").Requests("main", "cpu", "2").Obj()
		Expect(w.tenant.Create(ctx, next)).To(Succeed())
		w.stands(ctx, next, "False WaitingForSeat")
		Expect(resize("1", "1Gi")).To(Succeed())
		w.stands(ctx, next, "False WaitingForSeat")
		Expect(w.held("resized", "cpu")()).To(Equal("4"), "its node has not taken it back yet")
		w.kubelet(ctx, pod, corev1.PodRunning)
		w.stands(ctx, next, "True Entitled")
		Expect(w.held("resized", "cpu")()).To(Equal("4"))
	}, SpecTimeout(specTimeout))

	DescribeTable("a licence that relaxes lets pods run that it does not entitle, tells of them, and enforces when it is told to",
		func(ctx SpecContext, mode v1alpha1.EnforcementMode, warns bool) {
			team := "relaxed-" + map[bool]string{true: "warn", false: "audit"}[warns]
			license, _ := w.team(ctx, team, func(b *builders.LicenseBuilder) { b.Enforcement(mode).Limits("pods", "1") })
			told := &warnings{}
			config := rest.CopyConfig(w.admission.config)
			config.Impersonate, config.WarningHandlerWithContext = rest.ImpersonationConfig{UserName: "ada", Groups: []string{"system:masters"}}, told
			tenant := clientOf(config)
			stranger := func(name string) *corev1.Pod { return w.pod(team, name).ServiceAccount("stranger").Obj() }

			entitled, tolerated := w.pod(team, "entitled").Obj(), stranger("tolerated")
			Expect(tenant.Create(ctx, entitled)).To(Succeed())
			Expect(told.text()).To(BeEmpty())
			Expect(tenant.Create(ctx, tolerated)).To(Succeed())
			if warns {
				Expect(told.text()).To(And(ContainSubstring("admitted all the same [SubjectNotGranted]"), ContainSubstring(team)))
			} else {
				Expect(told.text()).To(BeEmpty())
			}
			for _, pod := range []*corev1.Pod{entitled, tolerated} {
				Expect(pod.Spec.SchedulingGates).To(BeEmpty())
			}
			w.runs(ctx, entitled)
			w.runs(ctx, tolerated)
			w.stands(ctx, entitled, "True Entitled")
			w.stands(ctx, tolerated, "False SubjectNotGranted")
			Expect(w.reasonsOf(ctx, entitled)).To(HaveExactElements("Admitted Entitled"))
			Expect(w.reasonsOf(ctx, tolerated)).To(HaveExactElements("Found SubjectNotGranted"))
			Expect(w.all(ctx, audit.Found, team)).To(HaveExactElements(HaveField("Message", HavePrefix("tolerated, since enforcement is "+string(mode)))))
			if warns {
				Eventually(w.told(ctx, "Pod", team, "tolerated")).Should(ConsistOf(HavePrefix("Tolerated ")))
			} else {
				Expect(w.told(ctx, "Pod", team, "tolerated")()).To(BeEmpty())
			}
			Eventually(func() bool { _, ok := w.holder(entitled, team); return ok }).Should(BeTrue(), "it is adopted")
			_, held := w.holder(tolerated, team)
			Expect(held).To(BeFalse())

			By("enforcing")
			enforce := func(mode v1alpha1.EnforcementMode) {
				before := client.MergeFrom(license.DeepCopy())
				license.Spec.Enforcement = mode
				Expect(w.admin.Patch(ctx, license, before)).To(Succeed())
				Eventually(func() int64 { s, _ := w.rights.Store.Snapshot(); return s.License(team).Generation }).Should(Equal(license.Generation))
			}
			enforce(v1alpha1.EnforcementEnforce)
			Expect(tenant.Create(ctx, stranger("refused"))).To(beDenied(v1alpha1.ReasonSubjectNotGranted))
			waiting := w.pod(team, "waiting").Obj()
			Expect(tenant.Create(ctx, waiting)).To(Succeed())
			Expect(waits(waiting)).To(BeTrue())
			w.stands(ctx, waiting, "False WaitingForSeat")
			Expect(conditionOf(waiting).Message).To(And(ContainSubstring("1 of 1 pods"), ContainSubstring(team+"/entitled")))
			Eventually(w.told(ctx, "Pod", team, "tolerated")).Should(ContainElement(HavePrefix("FoundUnlicensed ")), "it runs on, and is no longer tolerated")
			Expect(w.licensed(ctx, tolerated)()).To(Equal("False SubjectNotGranted"))
			Expect(w.licensed(ctx, entitled)()).To(Equal("True Entitled"))

			By("relaxing again")
			enforce(mode)
			w.stands(ctx, waiting, "True Entitled")
			Expect(waits(waiting)).To(BeFalse())
			Eventually(func() int { return w.ledgers.Ledger(team).BeyondLimits() }).Should(Equal(1))
			Expect(tenant.Create(ctx, stranger("tolerated-again"))).To(Succeed())
			if !warns {
				Expect(told.text()).To(BeEmpty())
			}
		},
		Entry("Warn", v1alpha1.EnforcementWarn, true, SpecTimeout(specTimeout)),
		Entry("Audit", v1alpha1.EnforcementAudit, false, SpecTimeout(specTimeout)),
	)

	DescribeTable("nobody else is stopped from ending, or writing about, a pod that lost its entitlement, because",
		func(ctx SpecContext, team string, evict bool, lose func(context.Context, *v1alpha1.ModelLicense, *v1alpha1.ModelGrant)) {
			license, grant := w.team(ctx, team, func(b *builders.LicenseBuilder) {
				if evict {
					b.OnRevoke(v1alpha1.RevokeEvict)
				}
			})
			template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": team}}, Spec: w.pod(team, "").Obj().Spec}
			template.Spec.RestartPolicy = corev1.RestartPolicyNever
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "tune"}, Spec: batchv1.JobSpec{Template: *template.DeepCopy(), Parallelism: ptr.To[int32](2)}}
			template.Spec.RestartPolicy = corev1.RestartPolicyAlways
			set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "llm"}, Spec: appsv1.ReplicaSetSpec{
				Replicas: ptr.To[int32](2), Selector: metav1.SetAsLabelSelector(template.Labels), Template: template,
			}}
			Expect(w.tenant.Create(ctx, job)).To(Succeed())
			Expect(w.tenant.Create(ctx, set)).To(Succeed())
			of := func(kind string, owner client.Object, version, name string) *corev1.Pod {
				return w.pod(team, name).Owner(version, kind, owner.GetName(), string(owner.GetUID())).Label("app", team).Finalizer(batchv1.JobTrackingFinalizer).Obj()
			}
			ofJob, ofSet := of("Job", job, "batch/v1", "tune-0"), of("ReplicaSet", set, "apps/v1", "llm-0")
			ofSet.Finalizers = nil
			for _, pod := range []*corev1.Pod{ofJob, ofSet} {
				Expect(w.tenant.Create(ctx, pod)).To(Succeed())
				w.stands(ctx, pod, "True Entitled")
				w.runs(ctx, pod)
			}
			lose(ctx, license, grant)
			for _, pod := range []*corev1.Pod{ofJob, ofSet} {
				w.stands(ctx, pod, "False Revoked")
				Eventually(func() string { w.licensed(ctx, pod)(); return pod.Annotations[v1alpha1.AnnotationAttention] }).ShouldNot(BeEmpty(), "our own annotation is written")
			}
			if w.tenant.Get(ctx, client.ObjectKeyFromObject(license), license) == nil { // else nothing covers the image any more
				Expect(w.tenant.Create(ctx, w.pod(team, "new").Obj(), client.DryRunAll)).To(WithTransform(apierrors.IsForbidden, BeTrue()), "no other starts")
			}

			By("having controllers write what they do")
			for _, pod := range []*corev1.Pod{ofJob, ofSet} {
				Expect(patched(ctx, pod, `{"metadata":{"labels":{"controller-revision-hash":"7"},"annotations":{"controller.kubernetes.io/pod-deletion-cost":"-1"}}}`)).To(Succeed())
				Expect(patched(ctx, pod, `{"metadata":{"ownerReferences":null}}`)).To(Succeed())
				Expect(retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the operator writes it, too
					if err := w.tenant.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
						return err
					}
					pod.Labels["adopted"] = "by-a-whole-update"
					return w.tenant.Update(ctx, pod)
				})).To(Succeed())
				before := client.StrategicMergeFrom(pod.DeepCopy())
				pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/seen", Status: corev1.ConditionTrue})
				Expect(w.tenant.Status().Patch(ctx, pod, before)).To(Succeed())
			}
			By("scaling down, and ending the Job")
			Expect(w.tenant.SubResource("scale").Update(ctx, set, client.WithSubResourceBody(&autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "llm"}, Spec: autoscalingv1.ScaleSpec{Replicas: 1},
			}))).To(Succeed())
			Expect(w.tenant.Patch(ctx, set, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`)))).To(Succeed())
			Expect(w.tenant.Patch(ctx, job, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`)))).To(Succeed())
			if evict {
				for _, pod := range []*corev1.Pod{ofJob, ofSet} {
					Eventually(func() *metav1.Time { w.licensed(ctx, pod)(); return pod.DeletionTimestamp }).ShouldNot(BeNil())
				}
			}
			for _, pod := range []*corev1.Pod{ofJob, ofSet} {
				w.kubelet(ctx, pod, corev1.PodFailed)
				Expect(w.tenant.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
			}
			Expect(w.tenant.Get(ctx, client.ObjectKeyFromObject(ofJob), ofJob)).To(Succeed(), "its finalizer holds it")
			Expect(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
				if err := w.tenant.Get(ctx, client.ObjectKeyFromObject(ofJob), ofJob); err != nil {
					return err
				}
				ofJob.Finalizers = nil
				return w.tenant.Update(ctx, ofJob)
			})).To(Succeed())
			for _, pod := range []*corev1.Pod{ofJob, ofSet} {
				Expect(apierrors.IsNotFound(w.tenant.Get(ctx, client.ObjectKeyFromObject(pod), pod))).To(BeTrue())
			}
			Eventually(func() bool {
				_, one := w.holder(ofJob, team)
				_, two := w.holder(ofSet, team)
				return one || two
			}).Should(BeFalse(), "no key was released, so that their seats end at once")
		},
		Entry("its grant is deleted", "lost-grant", false, func(ctx context.Context, _ *v1alpha1.ModelLicense, g *v1alpha1.ModelGrant) {
			Expect(w.tenant.Delete(ctx, g)).To(Succeed())
		}, SpecTimeout(specTimeout)),
		Entry("its licence is suspended, and its pods are evicted", "suspended", true, func(ctx context.Context, l *v1alpha1.ModelLicense, _ *v1alpha1.ModelGrant) {
			Expect(w.tenant.Patch(ctx, l, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspended":true}}`)))).To(Succeed())
		}, SpecTimeout(specTimeout)),
		Entry("its licence has expired", "expired", false, func(ctx context.Context, l *v1alpha1.ModelLicense, _ *v1alpha1.ModelGrant) {
			Expect(w.tenant.Patch(ctx, l, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"terms":{"notAfter":%q}}}`, time.Now().Add(-time.Second).Format(time.RFC3339))))).To(Succeed())
		}, SpecTimeout(specTimeout)),
		Entry("its licence is deleted", "deleted", false, func(ctx context.Context, l *v1alpha1.ModelLicense, _ *v1alpha1.ModelGrant) {
			Expect(w.tenant.Delete(ctx, l)).To(Succeed())
		}, SpecTimeout(specTimeout)),
	)
})

// reasonsOf lists the entries about a pod, as TYPE REASON.
func (w *wholeWorld) reasonsOf(ctx context.Context, pod *corev1.Pod) []string {
	GinkgoHelper()
	var found []string
	for e, err := range audit.Entries(ctx, w.admin, 0) {
		Expect(err).NotTo(HaveOccurred())
		if e.Entry.Pod.UID == string(pod.UID) {
			found = append(found, fmt.Sprintf("%s %s", e.Entry.Type, e.Entry.Reason))
		}
	}
	return found
}
