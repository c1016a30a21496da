//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Whoever walks around admission is found", func() {
	It("with a static pod, which runs without a key", func(ctx SpecContext) {
		t := newTenant(ctx)
		pod := builders.Pod("default", t.namespace).Container("main", installed.server).Obj()
		restricted(pod).TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		manifest, err := yaml.Marshal(pod)
		Expect(err).NotTo(HaveOccurred())
		directory := os.Getenv("STATIC_PODS")
		Expect(directory).NotTo(BeEmpty(), "STATIC_PODS is not set: read _output/cluster/env into the shell first")
		file := filepath.Join(directory, t.namespace+".yaml")
		Expect(os.WriteFile(file, manifest, 0o600)).To(Succeed())
		mirror := builders.Pod("default", t.namespace+"-"+os.Getenv("NODE_NAME")).Obj()
		DeferCleanup(func(ctx SpecContext) {
			Expect(os.Remove(file)).To(Succeed())
			Eventually(func() bool { return apierrors.IsNotFound(api.Get(ctx, client.ObjectKeyFromObject(mirror), mirror)) }).Should(BeTrue())
		})
		foundUnlicensed(ctx, mirror, v1alpha1.ReasonNamespaceNotAllowed)
		Expect(keyMountsOf(mirror, t.license)).To(BeEmpty())
	})

	It("with a pod in an exempt namespace", func(ctx SpecContext) {
		t := newTenant(ctx)
		pod := builders.Pod("kube-system", t.namespace).Container("main", installed.server).Obj()
		Expect(api.Create(ctx, restricted(pod))).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { remove(ctx, pod) })
		foundUnlicensed(ctx, pod, v1alpha1.ReasonNamespaceNotAllowed)
	})

	It("with a model's address in an argument alone", func(ctx SpecContext) {
		t := newTenant(ctx)
		fetching := func() *corev1.Pod {
			pod := builders.Pod(t.namespace, "fetching").ServiceAccount(account).
				InitContainer("storage-initializer", installed.probe).Container("main", installed.probe).Obj()
			pod.Spec.InitContainers[0].Args = []string{"oci://" + installed.server, "/mnt/models"}
			restricted(pod)
			pod.Spec.InitContainers[0].SecurityContext = pod.Spec.Containers[0].SecurityContext
			return pod
		}
		Expect(api.Create(ctx, fetching())).To(MatchError(ContainSubstring("NoGrant")))

		By("with a grant it starts, and a guess brings no key")
		Expect(api.Create(ctx, builders.Grant(t.namespace, "chat", t.license).ServiceAccount(account).Obj())).To(Succeed())
		pod := fetching()
		Expect(api.Create(ctx, pod)).To(Succeed())
		Expect(pod.Spec.Volumes).NotTo(ContainElement(HaveField("Name", HavePrefix(v1alpha1.VolumeNamePrefix))))
	})

	It("with a copy under another name, or built from the model", func(ctx SpecContext) {
		t := newTenant(ctx)
		licensed := builders.License(t.license + "-copied").Repository(installed.registry + "/copied/" + t.license).Namespaces("nowhere").Obj()
		model := []string{"--file", filepath.Join(installed.out, "model") + ":/model", "--file", installed.root + "/_output/image/probe:/probe", "--entrypoint", "/probe", "--label", "copied=" + t.license}
		installed.push("copied/"+t.license, model...)
		renamed := installed.push("elsewhere/"+t.license, model...)
		derived := installed.push("derived/"+t.license, append(model, "--file", filepath.Join(installed.root, "LICENSE")+":/added")...)
		Expect(api.Create(ctx, licensed)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(api.Delete(ctx, licensed))).To(Succeed()) })
		for name, image := range map[string]string{"renamed": renamed, "derived": derived} {
			pod := create(ctx, t.pod(name, image))
			Eventually(func() []string { return reasons(eventsOn(ctx, "Pod", pod)) }).
				Should(ContainElement(string(v1alpha1.ReasonCopyDetected)), "the copy of pod %s", name)
			Eventually(func() []audit.Entry {
				return entries(ctx, func(e audit.Entry) bool { return e.Type == audit.CopyDetected && e.Pod.UID == string(pod.UID) })
			}).Should(HaveLen(1))
		}

		By("evicting copies where the licence says so")
		before := client.MergeFrom(licensed.DeepCopy())
		licensed.Spec.Terms.OnCopy = v1alpha1.CopyPolicyEvict
		Expect(api.Patch(ctx, licensed, before)).To(Succeed())
		for _, name := range []string{"renamed", "derived"} {
			pod := builders.Pod(t.namespace, name).Obj()
			Eventually(func() bool { return apierrors.IsNotFound(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)) }).
				Should(BeTrue(), "pod %s runs still", name)
		}
	})

	It("and a licence says on which nodes its model lies", func(ctx SpecContext) {
		t := newEntitledTenant(ctx)
		ready(ctx, create(ctx, t.pod("server", installed.server)))
		var license v1alpha1.ModelLicense
		Eventually(func(g Gomega) {
			g.Expect(api.Get(ctx, client.ObjectKey{Name: t.license}, &license)).To(Succeed())
			g.Expect(license.Status.Distribution).NotTo(BeNil())
			g.Expect(license.Status.Distribution.NodeNames).To(ConsistOf(os.Getenv("NODE_NAME")))
			g.Expect(license.Status.Images).NotTo(BeEmpty(), fmt.Sprint(license.Status.Conditions))
		}).Should(Succeed())
	})
})

// foundUnlicensed waits until a pod is said to run without entitlement: by an Event, an entry and its condition.
func foundUnlicensed(ctx context.Context, pod *corev1.Pod, reason v1alpha1.Reason) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(pod.Status.Conditions).To(ContainElement(And(
			HaveField("Type", v1alpha1.PodConditionLicensed), HaveField("Status", corev1.ConditionFalse), HaveField("Reason", string(reason)))))
		g.Expect(reasons(eventsOn(ctx, "Pod", pod))).To(ContainElement(string(v1alpha1.ReasonFoundUnlicensed)))
		g.Expect(entries(ctx, func(e audit.Entry) bool { return e.Type == audit.Found && e.Pod.UID == string(pod.UID) })).To(HaveLen(1))
	}).Should(Succeed())
}
