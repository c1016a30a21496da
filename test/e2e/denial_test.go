//go:build e2e

package e2e

import (
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Without the right to it", func() {
	It("a Deployment is refused when it is applied", func(ctx SpecContext) {
		t := newTenant(ctx)
		Expect(api.Create(ctx, t.deployment("llm"))).To(MatchError(And(ContainSubstring("NoGrant"), ContainSubstring(t.license))))
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(BeEmpty())
	})

	It("a Deployment that lost its grant starts no pod, and its owner learns why", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		deployment := t.deployment("llm")
		deployment.Spec.Replicas = ptr.To(int32(0))
		Expect(api.Create(ctx, deployment)).To(Succeed())
		Expect(api.Delete(ctx, builders.Grant(t.namespace, "chat", t.license).Obj())).To(Succeed())
		before := client.MergeFrom(deployment.DeepCopy())
		deployment.Spec.Replicas = ptr.To(int32(1))
		Expect(api.Patch(ctx, deployment, before)).To(Succeed(), "a change that names no other image is nobody's business")
		var sets appsv1.ReplicaSetList
		Eventually(func(g Gomega) {
			g.Expect(api.List(ctx, &sets, client.InNamespace(t.namespace))).To(Succeed())
			g.Expect(sets.Items).To(HaveLen(1))
			g.Expect(reasons(eventsOn(ctx, "ReplicaSet", &sets.Items[0]))).To(ContainElements("FailedCreate", "Denied"))
		}).Should(Succeed())
		for _, event := range eventsOn(ctx, "ReplicaSet", &sets.Items[0]) {
			if event.Reason == "FailedCreate" || event.Reason == "Denied" {
				Expect(event.Message).To(ContainSubstring("NoGrant"))
				Expect(event.Message).To(ContainSubstring(t.license))
			}
		}
		Eventually(func(g Gomega) {
			denied := entries(ctx, of(audit.Denied, t.namespace))
			g.Expect(denied).NotTo(BeEmpty())
			g.Expect(denied).To(HaveEach(HaveField("Reason", v1alpha1.ReasonNoGrant)))
			g.Expect(denied).To(ContainElement(HaveField("Owner", audit.Owner{Kind: "ReplicaSet", Name: sets.Items[0].Name})))
		}).Should(Succeed())
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(BeEmpty())
	})

	It("an ephemeral container with the model is refused", func(ctx SpecContext) {
		t := newTenant(ctx)
		pod := create(ctx, t.pod("ordinary", installed.probe))
		_, err := clientset.CoreV1().Pods(t.namespace).UpdateEphemeralContainers(ctx, pod.Name, ephemeral(pod, installed.server), metav1.UpdateOptions{})
		Expect(err).To(MatchError(ContainSubstring("NoGrant")))
		_, err = clientset.CoreV1().Pods(t.namespace).UpdateEphemeralContainers(ctx, pod.Name, ephemeral(pod, installed.probe), metav1.UpdateOptions{})
		Expect(err).NotTo(HaveOccurred(), "one without the model is nobody's business")
	})

	It("an ephemeral container never mounts the key of the pod it joins", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		spy := ephemeral(pod, installed.probe)
		spy.Spec.EphemeralContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: v1alpha1.VolumeNamePrefix + t.license, MountPath: "/key"}}
		_, err := clientset.CoreV1().Pods(t.namespace).UpdateEphemeralContainers(ctx, pod.Name, spy, metav1.UpdateOptions{})
		Expect(err).To(MatchError(ContainSubstring("KeyVolumeInvalid")))
	})

	It("a pod that holds a key cannot change its image for a shell", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := create(ctx, t.pod("server", installed.server))
		ready(ctx, pod)
		pod.Spec.Containers[0].Image = installed.probe
		Expect(api.Update(ctx, pod)).To(MatchError(ContainSubstring("ImageSwapped")))

		By("changing it to another image of the licence")
		Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		pod.Spec.Containers[0].Image = installed.registry + "/models/chat-7b-server:e2e"
		Expect(api.Update(ctx, pod)).To(Succeed())
	})

	It("a pod past the webhook waits without a key, and says so", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := builders.Pod("kube-system", t.namespace).Container("main", installed.probe).KeyVolume(t.license, "main").Obj()
		Expect(api.Create(ctx, restricted(pod))).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { remove(ctx, pod) })
		Eventually(func() []string { return reasons(eventsOn(ctx, "Pod", pod)) }).Should(ContainElements("KeyRefused", "FailedMount"))
		Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		Expect(pod.Status.Phase).To(Equal(corev1.PodPending))
		Expect(keyMountsOf(pod, t.license)).To(BeEmpty())
		Eventually(func() []audit.Entry {
			return entries(ctx, func(e audit.Entry) bool { return e.Type == audit.KeyRefused && e.License.Name == t.license })
		}).ShouldNot(BeEmpty())
	})

	It("trying for ever fills no log and keeps no key from others", func(ctx SpecContext) {
		denied, entitled := newTenant(ctx), newEntitledTenant(ctx)
		const attempts, workers = 600, 6
		started := time.Now()
		var group sync.WaitGroup
		for worker := range workers {
			group.Go(func() {
				defer GinkgoRecover()
				for i := range attempts / workers {
					// Other names, owners and images each time, as someone does who wants to fill the log.
					pod := denied.probe(fmt.Sprintf("p-%d-%d", worker, i))
					pod.Spec.Volumes[0].Image.Reference = fmt.Sprintf("%s/models/chat-7b:%d-%d", installed.registry, worker, i)
					// On a busy machine nothing is read in time, or the API server gives up: that refuses as well.
					Expect(api.Create(ctx, pod)).To(MatchError(MatchRegexp("NoGrant|LookupFailed|failed calling webhook")))
				}
			})
		}
		pod := ready(ctx, create(ctx, entitled.probe("probe")))
		Expect(holdsKey(ctx, pod)).To(BeTrue())
		group.Wait()
		count := func() int {
			return len(entries(ctx, func(e audit.Entry) bool { return e.Namespace == denied.namespace && e.Type != audit.GrantCreated }))
		}
		Eventually(count).Should(BeNumerically(">", 0))
		// Each replica gives a namespace 48 KiB and 1 KiB a minute; an entry costs at least 768 bytes, and may be followed
		// by one that counts its repeats. A few firsts and a gap come on top.
		kibibytes := 48 + int(time.Since(started).Minutes()) + 2
		Consistently(count).Should(BeNumerically("<=", 2*(2*kibibytes*1024/768+8)))
		AddReportEntry("audit entries", fmt.Sprintf("%d denials left %d entries", attempts, count()))
	})
})

// ephemeral returns the pod with an ephemeral container of an image, whatever has happened to the pod meanwhile.
func ephemeral(pod *corev1.Pod, image string) *corev1.Pod {
	joined := pod.DeepCopy()
	joined.ResourceVersion = ""
	joined.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debugger", Image: image, SecurityContext: pod.Spec.Containers[0].SecurityContext,
	}}}
	return joined
}
