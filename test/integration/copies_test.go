package integration

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/test/builders"
)

// There is no kubelet here: specs write themselves what a node reports of its pods.
var _ = Describe("Copies of licensed images", Ordered, ContinueOnFailure, func() {
	var (
		w       *foundWorld
		stop    func()
		team    string // a namespace, and the licence of registry.example.com/TEAM/model
		spec    int
		license *v1alpha1.ModelLicense
	)

	// licensed is the image of the spec's licence: weights in two layers, without anything to run.
	licensed := func() copies.Image {
		m := copies.Manifest{Digest: digestOf(team, "manifest"), Config: digestOf(team, "config"), Data: true, Layers: []copies.Layer{
			{Digest: digestOf(team, "l1"), DiffID: digestOf(team, "d1"), Size: 1 << 20}, {Digest: digestOf(team, "l2"), DiffID: digestOf(team, "d2"), Size: 1 << 20},
		}}
		return copies.Image{Reference: "registry.example.com/" + team + "/model:1", Digest: digestOf(team, "index"), Platforms: []string{m.Digest}, Manifests: []copies.Manifest{m}, Vouched: true}
	}
	pod := func(namespace, name, image string) *corev1.Pod {
		p := builders.Pod(namespace, name).ServiceAccount("llm").Label("app", "llm").Container("server", image).Obj()
		p.Spec.NodeName = "node-a"
		return p
	}
	elsewhere := func() string { return "elsewhere.example.com/" + team + "/renamed" }
	// running creates a pod that runs an image by digest.
	running := func(ctx context.Context, p *corev1.Pod, digest string) *corev1.Pod {
		GinkgoHelper()
		w.create(ctx, p)
		w.runs(ctx, p, p.Spec.Containers[0].Image+"@"+digest)
		return p
	}
	detected := func(ctx context.Context, p *corev1.Pod) {
		GinkgoHelper()
		Eventually(w.copied(ctx, p)).Should(Equal("True CopyDetected"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.CopyDetected}))
	}
	spared := func(ctx context.Context, p *corev1.Pod) {
		GinkgoHelper()
		probe := running(ctx, pod(team, "probe", elsewhere()+":probe"), digestOf(team, "index"))
		detected(ctx, probe)
		Expect(w.client.Delete(ctx, probe, client.GracePeriodSeconds(0))).To(Succeed())
		Consistently(w.copied(ctx, p)).WithTimeout(time.Second).Should(BeEmpty())
		Expect(w.entries(ctx, p)).NotTo(ContainElement(audit.CopyDetected))
	}
	copiesOf := func(ctx context.Context) func() string {
		return func() string {
			var l v1alpha1.ModelLicense
			Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), &l)).To(Succeed())
			c := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.ConditionCopiesDetected)
			if c == nil {
				return ""
			}
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	onCopy := func(ctx context.Context, policy v1alpha1.CopyPolicy) {
		GinkgoHelper()
		Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := w.client.Get(ctx, client.ObjectKeyFromObject(license), license); err != nil {
				return err
			}
			license.Spec.Terms.OnCopy = policy
			return w.client.Update(ctx, license)
		})).To(Succeed())
	}
	gone := func(ctx context.Context, p *corev1.Pod) func() bool {
		return func() bool {
			err := w.client.Get(ctx, client.ObjectKeyFromObject(p), p)
			return apierrors.IsNotFound(err) || err == nil && !p.DeletionTimestamp.IsZero()
		}
	}

	BeforeAll(func(ctx SpecContext) {
		w = newFoundWorld(ctx)
		w.create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}})
		stop = w.operator(ctx, "operator-0")
	}, NodeTimeout(specTimeout))

	BeforeEach(func(ctx SpecContext) {
		spec++
		team = fmt.Sprintf("team-%d", spec)
		license = builders.License(team).Repository("registry.example.com/" + team + "/model").Obj()
		w.create(ctx, builders.Namespace(team).Obj(), license)
		w.index.Set(team, []copies.Image{licensed()})
	})

	It("are recognised by digest, told once, and forgotten when they are gone", func(ctx SpecContext) {
		Eventually(copiesOf(ctx)).Should(Equal("False NoCopies: no running pod is known to run a copy"))
		p := running(ctx, pod(team, "copy", elsewhere()), digestOf(team, "manifest"))
		detected(ctx, p)
		entries := w.all(ctx, audit.CopyDetected, team)
		Expect(entries).To(HaveLen(1))
		Expect(entries[0]).To(And(HaveField("License.UID", string(license.UID)), HaveField("Node", "node-a"), HaveField("Images", ConsistOf(elsewhere())),
			HaveField("Reason", v1alpha1.ReasonCopyDetected),
			HaveField("Message", fmt.Sprintf(`container server runs image %q, which is the same as registry.example.com/%s/model:1 of acme.example, licensed as %s`, elsewhere(), team, team))))
		for _, about := range [][3]string{{"Pod", team, "copy"}, {"ModelLicense", "", team}} {
			Eventually(w.told(ctx, about[0], about[1], about[2])).Should(ContainElement(HavePrefix("CopyDetected ")))
		}
		Eventually(copiesOf(ctx)).Should(Equal("True CopyDetected: 1 pod runs an unlicensed copy: " + team + "/copy"))

		By("by the licence's default it is reported alone")
		Consistently(gone(ctx, p)).WithTimeout(time.Second).Should(BeFalse())

		Expect(w.client.Delete(ctx, p, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(copiesOf(ctx)).WithTimeout(90 * time.Second).Should(HavePrefix("False NoCopies"))
	}, SpecTimeout(specTimeout))

	It("are recognised in image volumes where the node reports them", func(ctx SpecContext) {
		p := builders.Pod(team, "volume").Container("server", "docker.io/library/busybox").ImageVolume("model", elsewhere(), "server").Obj()
		w.create(ctx, p)
		before := client.StrategicMergeFrom(p.DeepCopy())
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "server", ImageID: "docker.io/library/busybox@" + digestOf(team, "busybox"), VolumeMounts: []corev1.VolumeMountStatus{{
			Name: "model", MountPath: "/volumes/model", VolumeStatus: &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: elsewhere() + "@" + digestOf(team, "index")}},
		}}}}
		Expect(w.client.Status().Patch(ctx, p, before)).To(Succeed())
		if !w.imageVolumes { // the API server drops volume and status
			spared(ctx, p)
			return
		}
		detected(ctx, p)
	}, SpecTimeout(specTimeout))

	It("are recognised by layers, asked for once and off the workers", func(ctx SpecContext) {
		image := elsewhere() + "@" + digestOf(team, "built")
		w.layers.has(image, copies.Manifest{Digest: digestOf(team, "built"), Layers: append(licensed().Manifests[0].Layers, copies.Layer{Digest: digestOf(team, "top"), DiffID: digestOf(team, "top d"), Size: 1 << 20})})
		var pods []*corev1.Pod
		for i := range 5 {
			p := builders.Pod(team, fmt.Sprintf("built-%d", i)).ServiceAccount(fmt.Sprintf("llm-%d", i)).Container("server", elsewhere()).Obj()
			pods = append(pods, running(ctx, p, digestOf(team, "built")))
		}
		for _, p := range pods {
			detected(ctx, p)
		}
		Expect(w.all(ctx, audit.CopyDetected, team)[0].Message).To(ContainSubstring("which was built from registry.example.com/" + team + "/model:1"))
		Expect(w.layers.times(image)).To(Equal(1))
	}, SpecTimeout(specTimeout))

	It("are found in pods that ran before their licence was known", func(ctx SpecContext) {
		p := running(ctx, pod(team, "early", elsewhere()), digestOf(team, "new"))
		spared(ctx, p)
		more := licensed()
		more.Digest = digestOf(team, "new")
		w.index.Set(team, []copies.Image{more})
		detected(ctx, p)
		By("and forgiven when it is none of the licence's any more")
		w.index.Set(team, []copies.Image{licensed()})
		Eventually(w.copied(ctx, p)).Should(BeEmpty())
	}, SpecTimeout(specTimeout))

	It("are never seen in pods that the licence covers by name", func(ctx SpecContext) {
		w.create(ctx, builders.Grant(team, "llm", team).ServiceAccount("llm").Obj())
		entitled := running(ctx, pod(team, "entitled", "registry.example.com/"+team+"/model:1"), digestOf(team, "index"))
		refused := builders.Pod(team, "refused").ServiceAccount("else").Container("server", "registry.example.com/"+team+"/model:1").Obj()
		running(ctx, refused, digestOf(team, "index"))
		Eventually(w.licensed(ctx, entitled)).Should(Equal("True Entitled"))
		Eventually(w.licensed(ctx, refused)).Should(Equal("False SubjectNotGranted"))
		spared(ctx, entitled)
		Expect(w.copied(ctx, refused)()).To(BeEmpty())
		By("but in one that is entitled to something else")
		Expect(w.entries(ctx, entitled)).To(Equal([]audit.Type{audit.Admitted}))
		smuggled := pod(team, "smuggled", "registry.example.com/"+team+"/model:1")
		smuggled.Spec.Containers = append(smuggled.Spec.Containers, corev1.Container{Name: "copy", Image: elsewhere()})
		w.create(ctx, smuggled)
		before := client.StrategicMergeFrom(smuggled.DeepCopy())
		smuggled.Status.Phase = corev1.PodRunning
		for _, c := range smuggled.Spec.Containers {
			smuggled.Status.ContainerStatuses = append(smuggled.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, ImageID: c.Image + "@" + digestOf(team, "index")})
		}
		Expect(w.client.Status().Patch(ctx, smuggled, before)).To(Succeed())
		Eventually(w.copied(ctx, smuggled)).Should(Equal("True CopyDetected"))
		Eventually(w.licensed(ctx, smuggled)).Should(Equal("True Entitled"))
	}, SpecTimeout(specTimeout))

	It("are told once over restarts, and not forgotten while the registry has not been read again", func(ctx SpecContext) {
		p := running(ctx, pod(team, "copy", elsewhere()), digestOf(team, "index"))
		detected(ctx, p)
		version := p.ResourceVersion
		stop()
		w.index = &copies.Index{} // an operator that has just started knows no images
		stop = w.operator(ctx, "operator-1")
		probe := pod(team, "probe", "registry.example.com/"+team+"/model:1")
		w.create(ctx, probe)
		Eventually(w.licensed(ctx, probe)).Should(Equal("False NoGrant"))
		Consistently(w.copied(ctx, p)).WithTimeout(2 * time.Second).Should(Equal("True CopyDetected"))
		Expect(copiesOf(ctx)()).To(HavePrefix("True CopyDetected: 1 pod "))
		w.index.Set(team, []copies.Image{licensed()})
		after := running(ctx, pod(team, "after", elsewhere()+":after"), digestOf(team, "index"))
		detected(ctx, after)
		Expect(w.copied(ctx, p)()).To(Equal("True CopyDetected"))
		Expect(w.entries(ctx, p)).To(Equal([]audit.Type{audit.CopyDetected}))
		Expect(p.ResourceVersion).To(Equal(version), "the pod was written again")
	}, SpecTimeout(specTimeout))

	It("are evicted where the licence says so, when a PodDisruptionBudget lets them", func(ctx SpecContext) {
		w.create(ctx, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "llm"},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "llm"}},
				UnhealthyPodEvictionPolicy: ptr.To(policyv1.IfHealthyBudget),
			},
		})
		allowed := func(n int32) {
			pdb := &policyv1.PodDisruptionBudget{}
			Expect(w.client.Get(ctx, client.ObjectKey{Namespace: team, Name: "llm"}, pdb)).To(Succeed())
			pdb.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: pdb.Generation, DisruptionsAllowed: n, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}
			Expect(w.client.Status().Update(ctx, pdb)).To(Succeed())
		}
		allowed(0)
		onCopy(ctx, v1alpha1.CopyPolicyEvict)
		p := running(ctx, pod(team, "copy", elsewhere()), digestOf(team, "index"))
		uid := p.UID
		entitled := pod(team, "entitled", "registry.example.com/"+team+"/model:1")
		entitled.Labels = nil
		running(ctx, entitled, digestOf(team, "index"))
		detected(ctx, p)
		Consistently(gone(ctx, p)).WithTimeout(3 * time.Second).Should(BeFalse())
		Expect(w.all(ctx, audit.CopyEvicted, team)).To(BeEmpty())

		allowed(1)
		Eventually(gone(ctx, p)).Should(BeTrue())
		p.UID = uid
		Eventually(func() []audit.Type { return w.entries(ctx, p) }).Should(Equal([]audit.Type{audit.CopyDetected, audit.CopyEvicted}))
		Eventually(w.told(ctx, "Pod", team, "copy")).Should(ContainElement(HavePrefix("CopyEvicted evicted: container server ")))
		Eventually(w.told(ctx, "ModelLicense", "", team)).Should(ContainElement(HavePrefix("CopyEvicted "))) // each Event is written by itself
		Consistently(func() []audit.Entry { return w.all(ctx, audit.CopyEvicted, team) }).WithTimeout(2 * time.Second).Should(HaveLen(1))
		Expect(gone(ctx, entitled)()).To(BeFalse())
	}, SpecTimeout(specTimeout))

	It("are evicted when the licence says so later", func(ctx SpecContext) {
		p := running(ctx, pod(team, "copy", elsewhere()), digestOf(team, "index"))
		detected(ctx, p)
		onCopy(ctx, v1alpha1.CopyPolicyEvict)
		Eventually(gone(ctx, p)).Should(BeTrue())
	}, SpecTimeout(specTimeout))

	It("are reported alone in kube-system, in the operator's namespace, and in static pods", func(ctx SpecContext) {
		onCopy(ctx, v1alpha1.CopyPolicyEvict)
		static := pod(team, "static-node-a", elsewhere()+":static")
		static.Spec.ServiceAccountName = ""
		static.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
		static.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-a", UID: "n", Controller: ptr.To(true)}}
		spared := []*corev1.Pod{static, pod("kube-system", "copy-"+team, elsewhere()), pod(operatorNamespace, "copy-"+team, elsewhere())}
		for _, p := range spared {
			running(ctx, p, digestOf(team, "index"))
		}
		other := running(ctx, pod(team, "copy", elsewhere()), digestOf(team, "index"))
		Eventually(gone(ctx, other)).Should(BeTrue())
		for _, p := range spared {
			detected(ctx, p)
			Expect(gone(ctx, p)()).To(BeFalse(), "%s/%s", p.Namespace, p.Name)
		}
	}, SpecTimeout(specTimeout))
})
