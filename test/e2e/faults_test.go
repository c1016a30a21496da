//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/audit"
)

// Each of these leaves the installation as it found it.
var _ = Describe("When something breaks", func() {
	It("a pod waits for the key service, says so, and starts when it is back", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		// The pod is admitted, but no node takes it until the operator is gone.
		pod := t.probe("waiting")
		pod.Spec.NodeSelector = map[string]string{"modelrights-e2e": t.namespace}
		create(ctx, pod)
		running := ready(ctx, create(ctx, t.probe("running")))

		scaleOperator(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { scaleOperator(ctx, 2) })
		labelNode(ctx, t.namespace)
		Eventually(func() []string { return warnings(eventsOn(ctx, "Pod", pod)) }).
			Should(ContainElement(And(HavePrefix("FailedMount: "), ContainSubstring("key service"))))
		Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		Expect(pod.Status.ContainerStatuses).To(HaveEach(HaveField("State.Waiting.Reason", "ContainerCreating")))

		By("the pod that runs has its key still")
		Expect(holdsKey(ctx, running)).To(BeTrue())

		started := time.Now()
		scaleOperator(ctx, 2)
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			g.Expect(isReady(pod)).To(BeTrue(), summary(pod))
		}).Should(Succeed())
		Expect(holdsKey(ctx, pod)).To(BeTrue())
		AddReportEntry("key service back", fmt.Sprintf("the pod was ready %s after the operator was started again", time.Since(started).Round(time.Second)))
	})

	It("the node driver may restart 20 times under running pods", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pods := []*corev1.Pod{ready(ctx, create(ctx, t.probe("one"))), ready(ctx, create(ctx, t.probe("two")))}
		started := time.Now()
		for range 20 {
			restartDriver(ctx)
			for _, pod := range pods {
				Expect(holdsKey(ctx, pod)).To(BeTrue())
			}
		}
		AddReportEntry("driver restarts", fmt.Sprintf("20 in %s", time.Since(started).Round(time.Second)))
		// Kubelet publishes again through the new driver.
		Expect(api.Patch(ctx, pods[0], client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"republish":"now"}}}`)))).To(Succeed())
		Consistently(func() []keyMount { return keyMounts(t.license) }).Should(HaveLen(2), "one for each pod")

		By("ending a pod and starting one")
		remove(ctx, pods[0])
		Eventually(func() []keyMount { return keyMountsOf(pods[0], t.license) }).Should(BeEmpty())
		pods[0] = ready(ctx, create(ctx, t.probe("three")))
		Expect(holdsKey(ctx, pods[0])).To(BeTrue())
		Expect(holdsKey(ctx, pods[1])).To(BeTrue())
		remove(ctx, pods[0], pods[1])
		Eventually(func() []keyMount { return keyMounts(t.license) }).Should(BeEmpty())
	})

	It("pods keep their keys without a node driver, and end once it is back", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		driver := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: driverNamespace, Name: "modelrights-node"}}
		Expect(api.Get(ctx, client.ObjectKeyFromObject(driver), driver)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) {
			install()
			driverPod(ctx)
			Eventually(func() []keyMount { return keyMountsOf(pod, t.license) }).Should(BeEmpty())
		})
		remove(ctx, driver)
		Eventually(func(g Gomega) {
			var pods corev1.PodList
			g.Expect(api.List(ctx, &pods, client.InNamespace(driverNamespace))).To(Succeed())
			g.Expect(pods.Items).To(BeEmpty())
		}).Should(Succeed())
		Expect(holdsKey(ctx, pod)).To(BeTrue())
		// Its end waits for the driver, which the cleanup brings back.
		Expect(api.Delete(ctx, pod)).To(Succeed())
	})

	It("kubelet may restart under running pods", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		clusterTool("restart", "kubelet")
		Expect(holdsKey(ctx, pod)).To(BeTrue())
		driverPod(ctx)
		second := ready(ctx, create(ctx, t.probe("second")))
		Expect(holdsKey(ctx, second)).To(BeTrue())
		Expect(holdsKey(ctx, pod)).To(BeTrue())
		Expect(keyMountsOf(pod, t.license)).To(HaveLen(1))
		remove(ctx, pod, second)
		Eventually(func() []keyMount { return append(keyMountsOf(pod, t.license), keyMountsOf(second, t.license)...) }).Should(BeEmpty())
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(HaveLen(2), "a restart releases no key anew")
	})

	It("both operators serve, and no key is without its audit entry when they are killed", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		scaleOperator(ctx, 2)
		var pods []*corev1.Pod
		for i := range 10 {
			pods = append(pods, create(ctx, t.probe(fmt.Sprintf("p-%d", i))))
		}
		By("killing one operator after the other while keys are released")
		var group sync.WaitGroup
		group.Go(func() {
			defer GinkgoRecover()
			for _, victim := range operatorPods(ctx) {
				Eventually(func() int { return len(entries(ctx, of(audit.KeyReleased, t.namespace))) }).Should(BeNumerically(">", 0))
				kill(ctx, &victim)
				Eventually(func() []corev1.Pod { return operatorPods(ctx) }).Should(HaveLen(2))
			}
		})
		for _, pod := range pods {
			Eventually(func(g Gomega) {
				g.Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
				g.Expect(isReady(pod)).To(BeTrue(), "%s: %s %v", pod.Name, summary(pod), warnings(eventsOn(ctx, "Pod", pod)))
			}).Should(Succeed())
		}
		group.Wait()
		entitled := map[string]bool{}
		for _, entry := range entries(ctx, of(audit.KeyReleased, t.namespace)) {
			entitled[entry.Pod.UID] = true
		}
		for _, pod := range pods {
			Expect(holdsKey(ctx, pod)).To(BeTrue())
			Expect(entitled).To(HaveKey(string(pod.UID)), "%s holds a key that the log does not know of", pod.Name)
		}
		// One that is killed after it wrote an entry, and before it marked the pod, has its successor write the same again:
		// entries of one ID tell of one admission.
		Eventually(func() int {
			admissions := map[string]bool{}
			for _, entry := range entries(ctx, of(audit.Admitted, t.namespace)) {
				admissions[entry.ID] = true
			}
			return len(admissions)
		}).Should(Equal(len(pods)))

		By("asking until both of the operators have released a key")
		operators := []string{}
		for _, pod := range operatorPods(ctx) {
			operators = append(operators, pod.Name)
		}
		i := 0
		Eventually(func() []string {
			i++
			ready(ctx, create(ctx, t.probe(fmt.Sprintf("q-%d", i))))
			// A driver keeps its connection; a new one has to choose an operator anew.
			restartDriver(ctx)
			writers := []string{}
			for _, entry := range entries(ctx, of(audit.KeyReleased, t.namespace)) {
				if slices.Contains(operators, entry.Writer) && !slices.Contains(writers, entry.Writer) {
					writers = append(writers, entry.Writer)
				}
			}
			return writers
		}).Should(ConsistOf(operators))
	})
})

// labelNode lets a node take pods with the node selector of the spec, and takes the label away afterwards.
func labelNode(ctx context.Context, value string) {
	GinkgoHelper()
	var nodes corev1.NodeList
	Expect(api.List(ctx, &nodes)).To(Succeed())
	patch := func(ctx context.Context, text string) {
		Expect(api.Patch(ctx, &nodes.Items[0], client.RawPatch("application/merge-patch+json", []byte(text)))).To(Succeed())
	}
	patch(ctx, `{"metadata":{"labels":{"modelrights-e2e":"`+value+`"}}}`)
	DeferCleanup(func(ctx SpecContext) { patch(ctx, `{"metadata":{"labels":{"modelrights-e2e":null}}}`) })
}

// kill ends a pod without any grace.
func kill(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	Expect(client.IgnoreNotFound(api.Delete(ctx, pod, &client.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}))).To(Succeed())
}

// restartDriver kills the node driver and waits for its successor.
func restartDriver(ctx context.Context) {
	GinkgoHelper()
	driver := driverPod(ctx)
	kill(ctx, driver)
	driverPod(ctx, string(driver.UID))
}
