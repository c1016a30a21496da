package integration

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	registryclient "modelrights.dev/modelrights/internal/registry"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("Images of licences", Ordered, ContinueOnFailure, func() {
	var w *imageWorld
	BeforeAll(func(ctx SpecContext) { w = newImageWorld(ctx) }, NodeTimeout(specTimeout))

	// resolved waits for a reason of ImagesResolved and returns the condition.
	resolved := func(ctx context.Context, license *v1alpha1.ModelLicense, reason v1alpha1.Reason) *metav1.Condition {
		GinkgoHelper()
		var found *metav1.Condition
		Eventually(func(g Gomega) {
			g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			found = meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionImagesResolved)
			g.Expect(found).NotTo(BeNil())
			g.Expect(found.Reason).To(Equal(string(reason)), found.Message)
			g.Expect(found.ObservedGeneration).To(Equal(license.Generation))
			ready := meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionReady)
			g.Expect(ready).NotTo(BeNil(), "the licence controller's part")
			g.Expect(license.Status.ObservedGeneration).To(Equal(license.Generation))
		}).WithContext(ctx).Should(Succeed())
		return found
	}
	create := func(ctx context.Context, license *v1alpha1.ModelLicense) *v1alpha1.ModelLicense {
		GinkgoHelper()
		Expect(w.client.Create(ctx, license)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) {
			Expect(client.IgnoreNotFound(w.client.Delete(ctx, license))).To(Succeed())
			Eventually(func() []string { return ownersOf(w, license) }).Should(BeEmpty())
		})
		return license
	}
	change := func(ctx context.Context, object client.Object, how func()) {
		GinkgoHelper()
		Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := w.client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			how()
			return w.client.Update(ctx, object)
		})).To(Succeed())
	}
	pinned := func(image string) func() string {
		return func() string {
			snapshot, _ := w.store.Snapshot()
			to, _ := snapshot.Pin(image)
			return to
		}
	}

	It("knows what tags stand for, and pins by it", func(ctx SpecContext) {
		repository := w.registry.host + "/models/tags"
		amd64, arm64 := modelImage(), modelImage()
		one, two := w.registry.push("models/tags", "v1", modelImage()), w.registry.push("models/tags", "v2", indexOf(amd64, arm64))
		w.registry.push("models/tags", "sha256-"+one[7:]+".sig", modelImage())
		license := create(ctx, builders.License("tags").Repository(repository).PinDigests().Obj())
		Expect(resolved(ctx, license, v1alpha1.ReasonImagesResolved).Status).To(Equal(metav1.ConditionTrue))
		amd64Digest, _ := amd64.Digest()
		arm64Digest, _ := arm64.Digest()
		Expect(license.Status.Images).To(ConsistOf(
			v1alpha1.ResolvedImage{Repository: repository, Tag: "v1", Digest: one},
			v1alpha1.ResolvedImage{Repository: repository, Tag: "v2", Digest: two, Platforms: []string{amd64Digest.String(), arm64Digest.String()}},
		))
		Eventually(pinned(repository + ":v2")).Should(Equal(repository + ":v2@" + two))

		By("noticing that a tag was moved")
		three := w.registry.push("models/tags", "v1", modelImage())
		Eventually(pinned(repository + ":v1")).Should(Equal(repository + ":v1@" + three))
		Eventually(func(g Gomega) {
			var events eventsv1.EventList
			g.Expect(w.client.List(ctx, &events)).To(Succeed())
			g.Expect(events.Items).To(ContainElement(SatisfyAll(
				HaveField("Reason", string(v1alpha1.ReasonTagMoved)), HaveField("Regarding.Name", "tags"),
				HaveField("Note", ContainSubstring(repository+":v1 stands for "+three+" now, for "+one+" before")),
			)))
		}).WithContext(ctx).Should(Succeed())
	})

	It("knows the platforms of listed digests, several of one repository", func(ctx SpecContext) {
		repository := w.registry.host + "/models/listed"
		amd64 := modelImage()
		index, single := w.registry.push("models/listed", "v1", indexOf(amd64, modelImage())), w.registry.push("models/listed", "v2", modelImage())
		other := w.registry.push("models/listed", "v3", modelImage())
		license := create(ctx, builders.License("listed").Repository(repository).Digests(index, single).Obj())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		Expect(license.Status.Images).To(HaveLen(5))
		Expect(w.index.Match(index)).To(HaveLen(1))
		Expect(w.index.Match(other)).To(BeEmpty(), "a tag that stands for no listed digest is not the model")
		platform, _ := amd64.Digest()
		Expect(w.index.Match(platform.String())).To(ConsistOf(HaveField("License", "listed")))
	})

	It("keeps what it knows while the registry is away, and goes on when it is back", func(ctx SpecContext) {
		repository := w.registry.host + "/models/away"
		one := w.registry.push("models/away", "v1", modelImage())
		license := create(ctx, builders.License("away").Repository(repository).PinDigests().Obj())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		w.registry.away.Store(true)
		DeferCleanup(func() { w.registry.away.Store(false) })
		Expect(resolved(ctx, license, v1alpha1.ReasonRegistryUnreachable).Message).To(ContainSubstring("503"))
		Expect(license.Status.Images).To(ConsistOf(HaveField("Digest", one)))
		Expect(w.index.Match(one)).To(HaveLen(1))
		Expect(pinned(repository + ":v1")()).To(Equal(repository + ":v1@" + one))

		w.registry.away.Store(false)
		two := w.registry.push("models/away", "v1", modelImage())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		Expect(license.Status.Images).To(ConsistOf(HaveField("Digest", two)))
	})

	It("uses the licence's pull Secret, of the operator's namespace", func(ctx SpecContext) {
		repository := w.registry.host + "/private/chat"
		digest := w.registry.push("private/chat", "v1", modelImage())
		license := create(ctx, builders.License("private").Repository(repository).Obj())
		Expect(resolved(ctx, license, v1alpha1.ReasonRegistryDenied).Status).To(Equal(metav1.ConditionFalse))

		By("naming a Secret that is not there, but in a namespace of tenants")
		Expect(w.client.Create(ctx, pullSecret("ml-prod", "registry", w.registry.host, registryUser, registryPassword))).To(Succeed())
		change(ctx, license, func() { license.Spec.PullSecretRef = &v1alpha1.PullSecretReference{Name: "registry"} })
		Expect(resolved(ctx, license, v1alpha1.ReasonPullSecretInvalid).Message).To(ContainSubstring(operatorNamespace + "/registry"))

		By("creating it with credentials for another host")
		secret := pullSecret(operatorNamespace, "registry", "registry.example.com", registryUser, registryPassword)
		Expect(w.client.Create(ctx, secret)).To(Succeed())
		Eventually(func() string { return resolved(ctx, license, v1alpha1.ReasonPullSecretInvalid).Message }).
			Should(ContainSubstring("none of the hosts that the licence names: " + w.registry.host))

		By("putting it right")
		change(ctx, secret, func() {
			secret.StringData = pullSecret("", "", w.registry.host, registryUser, registryPassword).StringData
		})
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		Expect(license.Status.Images).To(ConsistOf(HaveField("Digest", digest)))

		By("letting its password be wrong")
		change(ctx, secret, func() {
			secret.StringData = pullSecret("", "", w.registry.host, registryUser, "another").StringData
		})
		Expect(resolved(ctx, license, v1alpha1.ReasonRegistryDenied).Message).NotTo(ContainSubstring("another"))
		Expect(license.Status.Images).To(ConsistOf(HaveField("Digest", digest)))

		By("leaving another licence's questions without it")
		change(ctx, secret, func() {
			secret.StringData = pullSecret("", "", w.registry.host, registryUser, registryPassword).StringData
		})
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		other := create(ctx, builders.License("private-other").Repository(repository).Obj())
		resolved(ctx, other, v1alpha1.ReasonRegistryDenied)
	})

	It("takes no Secret of another type", func(ctx SpecContext) {
		opaque := pullSecret(operatorNamespace, "opaque", w.registry.host, registryUser, registryPassword)
		opaque.Type = corev1.SecretTypeOpaque
		Expect(w.client.Create(ctx, opaque)).To(Succeed())
		license := builders.License("opaque").Repository(w.registry.host + "/private/chat").Obj()
		license.Spec.PullSecretRef = &v1alpha1.PullSecretReference{Name: "opaque"}
		Expect(resolved(ctx, create(ctx, license), v1alpha1.ReasonPullSecretInvalid).Message).To(ContainSubstring("kubernetes.io/dockerconfigjson"))
	})

	It("says what it cannot resolve", func(ctx SpecContext) {
		missing := create(ctx, builders.License("missing").Repository(w.registry.host+"/models/missing").Obj())
		Expect(resolved(ctx, missing, v1alpha1.ReasonImageNotFound).Message).To(ContainSubstring("/models/missing"))
		pattern := create(ctx, builders.License("pattern").Repository(w.registry.host+"/models/**").Obj())
		Expect(resolved(ctx, pattern, v1alpha1.ReasonNothingToResolve).Status).To(Equal(metav1.ConditionTrue))
		nobody := create(ctx, builders.License("nobody").Repository("127.0.0.1:1/models/chat").Obj())
		resolved(ctx, nobody, v1alpha1.ReasonRegistryUnreachable)

		By("noticing that the image was pushed after all")
		w.registry.push("models/missing", "v1", modelImage())
		resolved(ctx, missing, v1alpha1.ReasonImagesResolved)
	})

	It("recognises what was built from a licensed image, and forgets with the licence", func(ctx SpecContext) {
		model := modelImage()
		w.registry.push("models/copied", "v1", model)
		copied := w.registry.host + "/tenant/other@" + w.registry.push("tenant/other", "v1", builtFrom(model))
		innocent := w.registry.host + "/tenant/mine@" + w.registry.push("tenant/mine", "v1", modelImage())
		license := create(ctx, builders.License("copied").Repository(w.registry.host+"/models/copied").Obj())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		manifests, err := w.layers.Layers(ctx, copied)
		Expect(err).NotTo(HaveOccurred())
		Expect(w.index.Match("", manifests...)).To(ConsistOf(SatisfyAll(HaveField("License", "copied"), HaveField("How", copies.BuiltFrom))))
		manifests, err = w.layers.Layers(ctx, innocent)
		Expect(err).NotTo(HaveOccurred())
		Expect(w.index.Match("", manifests...)).To(BeEmpty())

		Expect(w.client.Delete(ctx, license)).To(Succeed())
		Eventually(func() error {
			_, err := w.layers.Layers(ctx, copied)
			return err
		}).Should(MatchError(registryclient.ErrNotAllowed))
		Expect(ownersOf(w, license)).To(BeEmpty())
	})

	It("says on which nodes images lie", func(ctx SpecContext) {
		repository := w.registry.host + "/models/spread"
		digest := w.registry.push("models/spread", "v1", modelImage())
		license := create(ctx, builders.License("spread").Repository(repository).Obj())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		report := func(node string, names ...string) {
			GinkgoHelper()
			object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
			Expect(client.IgnoreAlreadyExists(w.client.Create(ctx, object))).To(Succeed())
			Expect(retry.RetryOnConflict(retry.DefaultRetry, func() error {
				if err := w.client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
					return err
				}
				object.Status.Images = []corev1.ContainerImage{{Names: []string{"docker.io/library/busybox:1"}}, {Names: names}}
				return w.client.Status().Update(ctx, object)
			})).To(Succeed())
		}
		nodes := func(g Gomega) *v1alpha1.ImageDistribution {
			g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			return license.Status.Distribution
		}
		Eventually(nodes).Should(HaveValue(HaveField("Nodes", int32(0))))
		report("node-a", repository+":v1")
		report("node-b", w.registry.host+"/tenant/renamed@"+digest)
		report("node-c", "registry.example.com/else:v1")
		Eventually(nodes).Should(HaveValue(Equal(v1alpha1.ImageDistribution{Nodes: 2, NodeNames: []string{"node-a", "node-b"}})))
		report("node-a", "registry.example.com/else:v1")
		Expect(w.client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-b"}})).To(Succeed())
		Eventually(nodes).Should(HaveValue(Equal(v1alpha1.ImageDistribution{})))
	})

	It("lets every controller write its part of the status and nothing else", func(ctx SpecContext) {
		repository := w.registry.host + "/models/parts"
		w.registry.push("models/parts", "v1", modelImage())
		license := create(ctx, builders.License("parts").Repository(repository).Obj())
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		for range 10 {
			change(ctx, license, func() { license.Spec.Model.Version += "1" })
			w.registry.push("models/parts", "v1", modelImage())
		}
		resolved(ctx, license, v1alpha1.ReasonImagesResolved)
		Eventually(func(g Gomega) {
			g.Expect(w.client.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
			g.Expect(license.Status.Images).To(HaveLen(1))
			g.Expect(license.Status.Distribution).NotTo(BeNil())
			g.Expect(meta.FindStatusCondition(license.Status.Conditions, v1alpha1.ConditionReady)).NotTo(BeNil())
			owners := map[string]bool{}
			for _, entry := range license.ManagedFields {
				if entry.Subresource == "status" {
					owners[entry.Manager] = true
					g.Expect(entry.Operation).To(Equal(metav1.ManagedFieldsOperationApply))
				}
			}
			g.Expect(owners).To(HaveLen(3))
		}).WithContext(ctx).Should(Succeed())
	})
})

// ownersOf lists the licence by each image of it that the index still knows.
func ownersOf(w *imageWorld, license *v1alpha1.ModelLicense) []string {
	var owners []string
	for _, image := range license.Status.Images {
		for _, owner := range w.index.Owners(image.Digest) {
			if owner == license.Name {
				owners = append(owners, owner)
			}
		}
	}
	return owners
}
