package integration

import (
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// Each spec is a way around admission that has worked against some policy engine.
var _ = Describe("Ways around admission", Ordered, ContinueOnFailure, func() {
	const (
		chatRepository = "registry.example.com/models/chat"
		shellImage     = "quay.io/acme/shell:1"
	)
	resolved, later := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	var a *admission

	chat := func() *builders.LicenseBuilder {
		return builders.License("acme-chat").Repository(chatRepository).Key("v2").Namespaces("ml-prod")
	}
	code := func() *builders.LicenseBuilder {
		return builders.License("acme-code").Repository("registry.example.com/models/code").Mirrors("cache.example.com/proxy/**").Key("v1").Namespaces("ml-prod")
	}
	server := func() *builders.PodBuilder {
		return builders.Pod("ml-prod", "").GenerateName("server-").ServiceAccount("llm")
	}
	create := func(ctx SpecContext, b *builders.PodBuilder) error { return a.client.Create(ctx, b.Obj()) }
	created := func(ctx SpecContext, b *builders.PodBuilder) *corev1.Pod {
		GinkgoHelper()
		pod := b.Obj()
		Expect(a.client.Create(ctx, pod)).To(Succeed())
		return pod
	}

	BeforeAll(func(ctx SpecContext) {
		a = startAdmission(ctx)
		a.write(ctx, builders.Namespace("ml-prod").Obj(), builders.Namespace("ml-dev").Obj())
	}, NodeTimeout(specTimeout))

	// Every spec starts with both licences and a grant of the first.
	BeforeEach(func(ctx SpecContext) {
		a.write(ctx, chat().Obj(), code().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Obj())
	})
	AfterEach(func(ctx SpecContext) {
		a.revoke(ctx, chat().Obj(), code().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").Obj())
	})

	DescribeTable("spelling the image otherwise",
		func(ctx SpecContext, image string, reason v1alpha1.Reason) {
			Expect(create(ctx, server().Container("main", image))).To(beDenied(reason, image))
		},
		Entry("host in upper case", "REGISTRY.EXAMPLE.COM/models/code:1", v1alpha1.ReasonNoGrant),
		Entry("default port", "registry.example.com:443/models/code:1", v1alpha1.ReasonNoGrant),
		Entry("default port, no tag", "registry.example.com:443/models/code", v1alpha1.ReasonNoGrant),
		Entry("zeros before the port", "registry.example.com:000443/models/code", v1alpha1.ReasonNoGrant),
		Entry("no tag", "registry.example.com/models/code", v1alpha1.ReasonNoGrant),
		Entry("digest", "registry.example.com/models/code@sha256:"+strings.Repeat("a", 64), v1alpha1.ReasonNoGrant),
		Entry("tag and digest", "registry.example.com/models/code:1@sha256:"+strings.Repeat("a", 64), v1alpha1.ReasonNoGrant),
		Entry("digest of another algorithm", "registry.example.com/models/code@sha512:"+strings.Repeat("a", 128), v1alpha1.ReasonNoGrant),
		Entry("a mirror", "cache.example.com/proxy/models/code:1", v1alpha1.ReasonNoGrant),
		Entry("a mirror's host in upper case", "CACHE.example.com:443/proxy/code", v1alpha1.ReasonNoGrant),
		Entry("a governed registry's unlicensed repository", "Registry.example.com/governed/new", v1alpha1.ReasonUnlicensed),
		Entry("image's ID, whole", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", v1alpha1.ReasonImageID),
		Entry("image's ID, abbreviated", "sha256:01ab", v1alpha1.ReasonImageID),
	)

	// What is named here is another image. It is admitted as any other, and is given nothing.
	DescribeTable("naming another image as if it were licensed",
		func(ctx SpecContext, image string) {
			pod := created(ctx, server().Container("main", image))
			Expect(pod.Spec.Volumes).To(BeEmpty())
			Expect(pod.Spec.Containers[0].Env).To(BeEmpty())
			Expect(create(ctx, server().Container("main", image).KeyVolume("acme-chat", "main"))).To(beDenied(v1alpha1.ReasonModelNotReferenced))
		},
		Entry("a prefix without a slash", "registry.example.com/models/chat-evil:1"),
		Entry("a prefix with a slash", "registry.example.com/models/chat/evil:1"),
		Entry("a host that begins alike", "registry.example.com.evil.example/models/chat:2.1"),
		Entry("a port taken for a tag", "registry.example.com:5000/models/chat"),
		Entry("the repository's name, copied", "evil.example/models/chat:2.1"),
		Entry("the whole name, copied", "evil.example/registry.example.com/models/chat:2.1"),
		Entry("the name at Docker Hub", "models/chat:2.1"),
		Entry("the name as a tag", "evil.example/x:registry.example.com-models-chat"),
	)

	Context("naming the image where no image is expected", func() {
		It("denies KServe's storage initialiser, which holds it in an argument only", func(ctx SpecContext) {
			Expect(create(ctx, server().Container("main", plainImage).
				InitContainer("storage-initializer", "kserve/storage-initializer:v0.15.0").Args("storage-initializer", "oci://"+codeImage, "/mnt/models"))).
				To(beDenied(v1alpha1.ReasonNoGrant, `argument of container "storage-initializer" (spec.initContainers[0].args[0])`, "inferred", "take its URI out"))
		})

		DescribeTable("denies it in", func(ctx SpecContext, change func(*builders.PodBuilder) *builders.PodBuilder) {
			Expect(create(ctx, change(server().Container("main", plainImage)))).To(beDenied(v1alpha1.ReasonNoGrant, "inferred"))
		},
			Entry("an argument", func(b *builders.PodBuilder) *builders.PodBuilder {
				return b.Args("main", "--model=OCI+Native://"+codeImage)
			}),
			Entry("a command", func(b *builders.PodBuilder) *builders.PodBuilder {
				return b.Command("main", "sh", "-c", "fetch 'modelcar://"+codeImage+"' && serve")
			}),
			Entry("a variable", func(b *builders.PodBuilder) *builders.PodBuilder {
				return b.Env("main", "CONFIG", `{"model":"oci+fetch://`+codeImage+`"}`)
			}),
			Entry("pieces", func(b *builders.PodBuilder) *builders.PodBuilder {
				return b.Env("main", "HOST", "registry.example.com").Env("main", "MODEL", "$(HOST)/models/code").Args("main", "oci://$(MODEL):1")
			}),
		)

		It("gives the key to no container that names the image in an argument", func(ctx SpecContext) {
			named := func() *builders.PodBuilder {
				return server().Container("main", shellImage).Args("main", "oci://"+chatImage)
			}
			pod := created(ctx, named())
			Expect(pod.Spec.Volumes).To(BeEmpty())
			Expect(create(ctx, named().KeyVolume("acme-chat"))).To(beDenied(v1alpha1.ReasonModelNotReferenced))
			Expect(create(ctx, named().KeyVolume("acme-chat", "main"))).To(MatchError(ContainSubstring("[ModelNotReferenced]")))
			Expect(create(ctx, named().Container("server", chatImage).KeyVolume("acme-chat", "main", "server"))).To(beDenied(v1alpha1.ReasonModelNotReferenced, "container main"))
		})

		It("denies what could hide behind more images than are looked at", func(ctx SpecContext) {
			Expect(create(ctx, server().Container("main", plainImage).Args("main", strings.Repeat("oci://a.b/c ", 600)+"oci://"+codeImage))).
				To(beDenied(v1alpha1.ReasonTooManyReferences))
		})
	})

	It("takes no word of the pod's own metadata", func(ctx SpecContext) {
		b := server().Container("main", codeImage)
		for _, key := range []string{
			"modelrights.dev/verdict", "modelrights.dev/licensed", "modelrights.dev/exempt", "modelrights.dev/ignore", "modelrights.dev/skip",
			"policies.kyverno.io/exclude", "admission.gatekeeper.sh/ignore", "openpolicyagent.org/webhook", "admission.datadoghq.com/enabled",
		} {
			b = b.Annotation(key, "allowed").Label(key, "ignore")
		}
		b = b.Annotation("kubernetes.io/config.source", "file").Annotation("kubernetes.io/config.mirror", "0123").
			Annotation("kubectl.kubernetes.io/last-applied-configuration", `{"spec":{"containers":[{"name":"main","image":"`+codeImage+`"}]}}`)
		Expect(create(ctx, b)).To(Or(beDenied(v1alpha1.ReasonNoGrant), WithTransform(apierrors.IsInvalid, BeTrue()), WithTransform(apierrors.IsForbidden, BeTrue())))
		pod := b.Obj()
		delete(pod.Annotations, "kubernetes.io/config.source")
		delete(pod.Annotations, "kubernetes.io/config.mirror")
		pod.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Reason: string(v1alpha1.ReasonEntitled)}}
		Expect(a.client.Create(ctx, pod)).To(beDenied(v1alpha1.ReasonNoGrant))
	})

	It("takes no word of a namespace that tenants may label", func(ctx SpecContext) {
		b := builders.Namespace("tenant")
		for _, key := range []string{
			"modelrights.dev/exempt", "modelrights.dev/ignore", "admission.gatekeeper.sh/ignore", "control-plane", "openpolicyagent.org/webhook",
			"policies.kyverno.io/exclude", "name", "kubernetes.io/metadata.name",
		} {
			b = b.Label(key, "kube-system")
		}
		namespace := b.Obj()
		err := a.client.Create(ctx, namespace)
		if apierrors.IsInvalid(err) { // The name's label is the API server's.
			namespace = b.Label("kubernetes.io/metadata.name", "tenant").Obj()
			err = a.client.Create(ctx, namespace)
		}
		Expect(err).NotTo(HaveOccurred())
		Expect(namespace.Labels).To(HaveKeyWithValue("kubernetes.io/metadata.name", "tenant"))
		Expect(a.client.Create(ctx, builders.Pod("tenant", "server").ServiceAccount("llm").Container("main", codeImage).Obj())).
			To(beDenied(v1alpha1.ReasonNamespaceNotAllowed))
	})

	Context("changing a pod that was admitted", func() {
		It("decides on an image change amid others", func(ctx SpecContext) {
			pod := created(ctx, server().Finalizer("example.com/hold").Container("main", plainImage).Container("proxy", plainImage))
			pod.Finalizers = nil
			pod.Labels = map[string]string{"pod-template-hash": "0"}
			pod.Annotations = map[string]string{"controller.kubernetes.io/pod-deletion-cost": "-1"}
			pod.Spec.Containers[1].Image = codeImage
			Expect(a.client.Update(ctx, pod)).To(beDenied(v1alpha1.ReasonNoGrant, "spec.containers[1].image"))
		})

		It("decides also on a pod that is being deleted", func(ctx SpecContext) {
			pod := created(ctx, server().Finalizer("example.com/hold").Container("main", plainImage))
			Expect(a.client.Delete(ctx, pod)).To(Succeed())
			Expect(a.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			Expect(pod.DeletionTimestamp).NotTo(BeNil())
			swapped := pod.DeepCopy()
			swapped.Spec.Containers[0].Image = codeImage
			Expect(a.client.Update(ctx, swapped)).To(beDenied(v1alpha1.ReasonNoGrant))
			swapped.Finalizers = nil
			Expect(a.client.Update(ctx, swapped)).To(beDenied(v1alpha1.ReasonNoGrant))
			debugged := pod.DeepCopy()
			debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", codeImage).Obj().Spec.EphemeralContainers
			Expect(a.client.SubResource("ephemeralcontainers").Update(ctx, debugged)).To(beDenied(v1alpha1.ReasonNoGrant))
			pod.Finalizers = nil
			Expect(a.client.Update(ctx, pod)).To(Succeed())
		})

		It("excuses nothing by what the pod ran before", func(ctx SpecContext) {
			a.revoke(ctx, code().Obj())
			pod := created(ctx, server().Container("main", codeImage).Container("proxy", plainImage))
			a.write(ctx, code().Obj())
			elsewhere := pod.DeepCopy()
			elsewhere.Spec.Containers[1].Image = codeImage
			Expect(a.client.Update(ctx, elsewhere)).To(beDenied(v1alpha1.ReasonNoGrant, "spec.containers[1].image"))
			debugged := pod.DeepCopy()
			debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", codeImage).Obj().Spec.EphemeralContainers
			Expect(a.client.SubResource("ephemeralcontainers").Update(ctx, debugged)).To(beDenied(v1alpha1.ReasonNoGrant))
			pod.Labels = map[string]string{"a": "b"}
			Expect(a.client.Update(ctx, pod)).To(Succeed(), "what it runs is not decided again")
		})

		It("denies an ephemeral container that names the image in its command", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", plainImage))
			pod.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", shellImage).Command("debug", "pull", "oci://"+codeImage).Obj().Spec.EphemeralContainers
			Expect(a.client.SubResource("ephemeralcontainers").Update(ctx, pod)).To(beDenied(v1alpha1.ReasonNoGrant, "spec.ephemeralContainers[0].command[1]"))
		})

		It("lets no image in by a resize", func(ctx SpecContext) {
			if !slices.Contains(podSubresources(a), "resize") {
				return // 1.32 has none.
			}
			pod := server().Container("main", plainImage).Obj()
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
			Expect(a.client.Create(ctx, pod)).To(Succeed())
			resized := pod.DeepCopy()
			resized.Spec.Containers[0].Image = codeImage
			resized.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2")
			if err := a.client.SubResource("resize").Update(ctx, resized); err != nil {
				Expect(apierrors.IsForbidden(err) || apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			}
			Expect(a.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			Expect(pod.Spec.Containers[0].Image).To(Equal(plainImage))
		})
	})

	Context("with a registry that answers differently the second time", func() {
		// resolve writes what the operator found, and waits until the webhooks know.
		resolve := func(ctx SpecContext, digest string) {
			GinkgoHelper()
			license := &v1alpha1.ModelLicense{}
			Expect(a.client.Get(ctx, client.ObjectKey{Name: "acme-chat"}, license)).To(Succeed())
			license.Status.Images = chat().Resolved(chatRepository, "2.1", digest).Obj().Status.Images
			Expect(a.client.Status().Update(ctx, license)).To(Succeed())
			Eventually(func(g Gomega) {
				s, _ := a.rights.Store.Snapshot()
				g.Expect(s.License("acme-chat").Status.Images).To(ConsistOf(HaveField("Digest", digest)))
			}).Should(Succeed())
		}

		It("runs what was resolved", func(ctx SpecContext) {
			a.revoke(ctx, chat().Obj())
			a.write(ctx, chat().PinDigests().Obj())
			Expect(create(ctx, server().Container("main", chatImage))).To(beDenied(v1alpha1.ReasonDigestNotPinned, "write the digest"))
			resolve(ctx, resolved)
			pod := created(ctx, server().InitContainer("fetch", chatImage).Container("main", chatImage))
			Expect(pod.Spec.InitContainers[0].Image).To(Equal(chatImage + "@" + resolved))
			Expect(pod.Spec.Containers[0].Image).To(Equal(chatImage + "@" + resolved))
			Expect(pod.Spec.Volumes).To(HaveLen(1), "pinned, it gets its key")
			if a.minor() >= imageVolumesSince {
				pod := created(ctx, server().Container("main", plainImage).ImageVolume("weights", chatImage, "main"))
				Expect(pod.Spec.Volumes[0].Image.Reference).To(Equal(chatImage + "@" + resolved))
			}

			resolve(ctx, later)
			Expect(a.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			Expect(pod.Spec.Containers[0].Image).To(Equal(chatImage + "@" + resolved))
			Expect(created(ctx, server().Container("main", chatImage)).Spec.Containers[0].Image).To(Equal(chatImage + "@" + later))

			By("insisting where nothing completes the image")
			unpinned := pod.DeepCopy()
			unpinned.Spec.Containers[0].Image = chatImage
			Expect(a.client.Update(ctx, unpinned)).To(beDenied(v1alpha1.ReasonDigestNotPinned, `write "`+chatImage+"@"+later+`"`))
			debugged := pod.DeepCopy()
			debugged.Spec.EphemeralContainers = builders.Pod("", "").EphemeralContainer("debug", chatImage).Obj().Spec.EphemeralContainers
			Expect(a.client.SubResource("ephemeralcontainers").Update(ctx, debugged)).To(beDenied(v1alpha1.ReasonDigestNotPinned, "ephemeral containers"))
		})

		It("takes no other digest than the licensed, whatever the tag says", func(ctx SpecContext) {
			a.revoke(ctx, chat().Obj())
			a.write(ctx, chat().Digests(resolved).Obj())
			resolve(ctx, later) // The tag has moved to something that is not licensed.
			Expect(create(ctx, server().Container("main", chatImage))).To(beDenied(v1alpha1.ReasonDigestNotPinned))
			Expect(create(ctx, server().Container("main", chatImage+"@"+later))).To(beDenied(v1alpha1.ReasonDigestNotLicensed, "acme.example"))
			Expect(create(ctx, server().Container("main", chatRepository+"@sha512:"+strings.Repeat("1", 128)))).To(beDenied(v1alpha1.ReasonDigestNotLicensed))
			created(ctx, server().Container("main", chatImage+"@"+resolved))
			created(ctx, server().Container("main", chatRepository+":other@"+resolved))
		})
	})
})
