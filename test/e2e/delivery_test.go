//go:build e2e

package e2e

import (
	"context"
	"path"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("An entitled workload", func() {
	It("runs as a Deployment, opens its weights, and leaves evidence", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		Expect(api.Create(ctx, t.deployment("llm"))).To(Succeed())
		pod := onlyPod(ctx, t, "llm")
		ready(ctx, pod)

		var model struct {
			SHA256 string `json:"sha256"`
		}
		Expect(ask(ctx, pod, "8080", "/v1/model", nil, &model)).To(Succeed())
		Expect(model.SHA256).To(Equal(installed.weights))

		By("reading the audit log")
		Eventually(func(g Gomega) {
			for _, kind := range []audit.Type{audit.Admitted, audit.KeyReleased} {
				found := entries(ctx, of(kind, t.namespace))
				g.Expect(found).To(HaveLen(1), "%s entries", kind)
				g.Expect(found[0].Pod.UID).To(Equal(string(pod.UID)))
				g.Expect(found[0].License.Name).To(Equal(t.license))
				g.Expect(found[0].ServiceAccount).To(Equal(account))
			}
		}).Should(Succeed())
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))[0].Node).To(Equal(pod.Spec.NodeName))
		Expect(entries(ctx, of(audit.GrantCreated, t.namespace))).To(HaveLen(1))
		Expect(entries(ctx, func(e audit.Entry) bool { return e.Type == audit.LicenseCreated && e.License.Name == t.license })).To(HaveLen(1))

		By("reading the Events")
		license := builders.License(t.license).Obj()
		grant := builders.Grant(t.namespace, "chat", t.license).Obj()
		Eventually(func(g Gomega) {
			g.Expect(reasons(eventsOn(ctx, "Pod", pod))).To(ContainElements("Admitted", "KeyReleased"))
			g.Expect(reasons(eventsOn(ctx, "ModelLicense", license))).To(ContainElement("Ready"))
			g.Expect(reasons(eventsOn(ctx, "ModelGrant", grant))).To(ContainElement("Ready"))
		}).Should(Succeed())
		Expect(warnings(eventsOn(ctx, "Pod", pod))).To(BeEmpty())

		By("looking for the key in our logs")
		for _, logs := range [][]string{
			{"-n", operatorNamespace, "logs", "deployment/modelrights-operator", "--all-pods"},
			{"-n", driverNamespace, "logs", "daemonset/modelrights-node"},
		} {
			text, err := kubectl(logs...)
			Expect(err).NotTo(HaveOccurred())
			Expect(text).NotTo(BeEmpty())
			Expect(strings.ToUpper(text)).NotTo(ContainSubstring("AGE-SECRET-KEY"))
			Expect(text).NotTo(ContainSubstring(strings.TrimSpace(installed.key)[20:60]))
		}
	})

	It("runs the licensed image itself", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := create(ctx, t.pod("server", installed.server))
		var model struct {
			SHA256 string `json:"sha256"`
		}
		Eventually(func() error { return ask(ctx, pod, "8080", "/v1/model", nil, &model) }).Should(Succeed())
		Expect(model.SHA256).To(Equal(installed.weights))
	})

	It("finds the key in memory, read-only, in the containers that use the model and in no other", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))

		directory := path.Join(v1alpha1.KeyDirectory, t.license)
		file := path.Join(directory, v1alpha1.KeyFileName)
		main := look(ctx, pod, "8080")
		Expect(main.KeyFile).To(Equal(file))
		Expect(main.Files).To(HaveLen(2), "the key, and its lease")
		Expect(keySeen(main)).To(Equal(hash([]byte(installed.key))))
		for _, seen := range main.Files {
			Expect(path.Dir(seen.Path)).To(Equal(directory))
			Expect(seen.Mode).To(HavePrefix("-r--"))
			Expect(seen.Mode).NotTo(ContainSubstring("w"))
		}
		Expect(main.Writable).To(BeEmpty())

		By("reading the mounts of the container and of the node")
		Expect(main.Mounts).To(HaveLen(1))
		fields := strings.Fields(main.Mounts[0])
		Expect(fields[1]).To(Equal(directory))
		Expect(fields[2]).To(Equal("tmpfs"))
		// runc mounts the volume into the container with options of its own, so that nosuid, nodev and noexec are seen on the
		// node alone; noswap belongs to the filesystem.
		Expect(strings.Split(fields[3], ",")).To(ContainElements("ro", "noswap"))
		Expect(keyMountsOf(pod, t.license)).To(HaveLen(1))
		Expect(strings.Split(keyMountsOf(pod, t.license)[0].options, ",")).To(ContainElements("ro", "nosuid", "nodev", "noexec", "noswap"))

		By("looking around in the sidecar")
		sidecar := look(ctx, pod, "8081")
		Expect(sidecar.KeyFile).To(BeEmpty())
		Expect(sidecar.Files).To(BeEmpty())
		Expect(sidecar.Mounts).To(BeEmpty())
	})

	It("leaves nothing on the node when it ends", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		Expect(keyMountsOf(pod, t.license)).To(HaveLen(1))
		remove(ctx, pod)
		Eventually(func() []keyMount { return keyMountsOf(pod, t.license) }).Should(BeEmpty())
	})

	It("keeps its key while kubelet publishes the volume again and again", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		pod := ready(ctx, create(ctx, t.probe("probe")))
		// Kubelet republishes at once when the pod object changes, and by itself within 90 seconds.
		for _, value := range []string{"1", "2", "3"} {
			Expect(api.Patch(ctx, pod, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"republish":"`+value+`"}}}`)))).To(Succeed())
		}
		Consistently(func(g Gomega) {
			g.Expect(holdsKey(ctx, pod)).To(BeTrue())
			g.Expect(warnings(eventsOn(ctx, "Pod", pod))).To(BeEmpty())
			g.Expect(keyMountsOf(pod, t.license)).To(HaveLen(1))
		}).WithTimeout(95 * time.Second).WithPolling(5 * time.Second).Should(Succeed())
		Expect(entries(ctx, of(audit.KeyReleased, t.namespace))).To(HaveLen(1), "a renewal carries no key")
	})
})

// onlyPod waits for the one pod with a label app.
func onlyPod(ctx context.Context, t tenant, app string) *corev1.Pod {
	GinkgoHelper()
	var pods corev1.PodList
	Eventually(func(g Gomega) {
		g.Expect(api.List(ctx, &pods, client.InNamespace(t.namespace), client.MatchingLabels{"app": app})).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(1))
	}).Should(Succeed())
	return &pods.Items[0]
}
