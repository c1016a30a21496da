package integration

import (
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/test/builders"
)

const (
	chatImage  = "registry.example.com/models/chat:2.1"
	codeImage  = "registry.example.com/models/code:1"
	plainImage = "quay.io/acme/web:1"
)

// imageVolumesSince is the minor version from which API servers take image volumes unless told otherwise.
const imageVolumesSince = 35

var _ = Describe("Pod webhooks", Ordered, ContinueOnFailure, func() {
	var a *admission

	chat := func() *v1alpha1.ModelLicense {
		return builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v2").Namespaces("ml-prod").Obj()
	}
	code := func() *v1alpha1.ModelLicense {
		return builders.License("acme-code").Repository("registry.example.com/models/code").Key("v1").
			NamespaceSelector(map[string]string{"team": "ml"}).Obj()
	}
	chatGrant := func() *v1alpha1.ModelGrant {
		return builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Obj()
	}
	server := func() *builders.PodBuilder {
		return builders.Pod("ml-prod", "").GenerateName("server-").ServiceAccount("llm")
	}

	BeforeAll(func(ctx SpecContext) {
		a = startAdmission(ctx)
		a.write(ctx, builders.Namespace("ml-prod").Label("team", "ml").Obj(), builders.Namespace("ml-dev").Obj())
	}, NodeTimeout(specTimeout))

	// Every spec starts with both licences and a grant of the first.
	BeforeEach(func(ctx SpecContext) { a.write(ctx, chat(), code(), chatGrant()) })
	AfterEach(func(ctx SpecContext) {
		a.rights.thaw()
		a.revoke(ctx, chat(), code(), chatGrant(), builders.Grant("ml-prod", "code", "acme-code").Obj(),
			builders.Grant("ml-dev", "chat", "acme-chat").Obj(), builders.Grant("ml-dev", "code", "acme-code").Obj())
	})

	create := func(ctx SpecContext, b *builders.PodBuilder) (*corev1.Pod, error) {
		pod := b.Obj()
		return pod, a.client.Create(ctx, pod)
	}
	created := func(ctx SpecContext, b *builders.PodBuilder) *corev1.Pod {
		GinkgoHelper()
		pod, err := create(ctx, b)
		Expect(err).NotTo(HaveOccurred())
		return pod
	}

	Context("with what holds for a pod's whole life", func() { termSpecs(&a) })

	Context("on creation", func() {
		It("leaves a plain pod alone", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", plainImage))
			Expect(pod.Spec.Volumes).To(BeEmpty())
			Expect(pod.Spec.Containers[0].Env).To(BeEmpty())
			Expect(pod.Spec.SchedulingGates).To(BeEmpty())
		})

		It("brings the key into the containers that use the licence and into no others", func(ctx SpecContext) {
			pod := created(ctx, server().
				InitContainer("check", chatImage).InitContainer("other", plainImage).
				Container("main", chatImage).Container("proxy", plainImage))
			Expect(pod.Spec.Volumes).To(HaveLen(1))
			volume := pod.Spec.Volumes[0]
			Expect(volume.Name).To(Equal("modelrights-acme-chat"))
			Expect(volume.CSI.Driver).To(Equal("node.modelrights.dev"))
			Expect(volume.CSI.VolumeAttributes).To(Equal(map[string]string{"license": "acme-chat"}))
			mount := corev1.VolumeMount{Name: "modelrights-acme-chat", MountPath: "/var/run/modelrights/acme-chat", ReadOnly: true}
			variable := corev1.EnvVar{Name: "MODELRIGHTS_KEY_FILE", Value: "/var/run/modelrights/acme-chat/key"}
			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				if c.Name == "check" || c.Name == "main" {
					Expect(c.VolumeMounts).To(ConsistOf(mount), c.Name)
					Expect(c.Env).To(ConsistOf(variable), c.Name)
				} else {
					Expect(c.VolumeMounts).To(BeEmpty(), c.Name)
					Expect(c.Env).To(BeEmpty(), c.Name)
				}
			}
		})

		It("names the directory where a container uses several licences", func(ctx SpecContext) {
			a.write(ctx, builders.Grant("ml-prod", "code", "acme-code").ServiceAccount("llm").Obj())
			pod := server().Container("main", chatImage).Container("second", codeImage)
			if a.minor() >= imageVolumesSince {
				pod = pod.ImageVolume("weights", codeImage, "main")
			}
			got := created(ctx, pod)
			Expect(got.Spec.Containers[1].Env).To(ConsistOf(corev1.EnvVar{Name: "MODELRIGHTS_KEY_FILE", Value: "/var/run/modelrights/acme-code/key"}))
			if a.minor() >= imageVolumesSince {
				Expect(got.Spec.Containers[0].Env).To(ConsistOf(corev1.EnvVar{Name: "MODELRIGHTS_KEY_FILE", Value: "/var/run/modelrights"}))
			}
		})

		It("denies a governed image that no licence covers", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("main", "registry.example.com/governed/new:1"))
			Expect(err).To(beDenied(v1alpha1.ReasonUnlicensed, `container "main" (spec.containers[0].image)`, "ask your platform team"))
		})

		It("denies a licensed image without a grant and says whom to ask for one", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("main", codeImage))
			Expect(err).To(beDenied(v1alpha1.ReasonNoGrant, `admission webhook "validate.pods.modelrights.dev" denied the request`,
				"model chat-7b 2.1 of acme.example, licensed as acme-code", "modellicenses/acme-code", "ServiceAccount llm"))
		})

		It("denies other accounts", func(ctx SpecContext) {
			_, err := create(ctx, server().ServiceAccount("web").Container("main", chatImage))
			Expect(err).To(beDenied(v1alpha1.ReasonSubjectNotGranted, "service account web"))
		})

		It("denies an init container", func(ctx SpecContext) {
			_, err := create(ctx, server().InitContainer("fetch", codeImage).Container("main", plainImage))
			Expect(err).To(beDenied(v1alpha1.ReasonNoGrant, `init container "fetch" (spec.initContainers[0].image)`))
		})

		It("denies an image volume", func(ctx SpecContext) {
			stored, err := create(ctx, server().Container("main", plainImage).ImageVolume("weights", codeImage, "main"))
			if a.minor() >= imageVolumesSince {
				Expect(err).To(beDenied(v1alpha1.ReasonNoGrant, `image volume "weights" (spec.volumes[0].image.reference)`))
				pod := created(ctx, server().Container("main", plainImage).ImageVolume("weights", chatImage, "main"))
				Expect(pod.Spec.Volumes).To(HaveLen(2))
				Expect(pod.Spec.Containers[0].Env).To(HaveLen(1))
			} else {
				// The API server drops the volume and its mounts, so that there is no image to be denied.
				Expect(err).NotTo(HaveOccurred())
				Expect(stored.Spec.Volumes).To(BeEmpty())
				Expect(stored.Spec.Containers[0].VolumeMounts).To(BeEmpty())
			}
		})

		It("denies in a namespace that the licence does not name, whatever was granted there", func(ctx SpecContext) {
			a.write(ctx, builders.Grant("ml-dev", "chat", "acme-chat").ServiceAccount("llm").Obj(),
				builders.Grant("ml-dev", "code", "acme-code").ServiceAccount("llm").Obj())
			for _, image := range []string{chatImage, codeImage} {
				_, err := create(ctx, builders.Pod("ml-dev", "server").ServiceAccount("llm").Container("main", image))
				Expect(err).To(beDenied(v1alpha1.ReasonNamespaceNotAllowed, "namespace ml-dev"))
			}
		})

		DescribeTable("denies references that hide what they are",
			func(ctx SpecContext, image string, reason v1alpha1.Reason) {
				_, err := create(ctx, server().Container("main", image))
				Expect(err).To(beDenied(reason, image))
			},
			Entry("an image's ID", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", v1alpha1.ReasonImageID),
			Entry("an abbreviated image's ID", "sha256:01ab", v1alpha1.ReasonImageID),
			Entry("nothing that parses", "registry.example.com/models/code:a:b", v1alpha1.ReasonUnparsableImage),
			Entry("the host in upper case with its port", "REGISTRY.example.com:443/models/code:1", v1alpha1.ReasonNoGrant),
			Entry("zeros before the port", "registry.example.com:0443/models/code:1", v1alpha1.ReasonNoGrant),
		)

		It("lists every reason and tells tools", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("a", codeImage).Container("b", "sha256:01ab"))
			Expect(err).To(MatchError(ContainSubstring("modelrights: pod denied [NoGrant,ImageID]: (1) ")))
			status := err.(apierrors.APIStatus).Status()
			Expect(status.Details.Causes).To(HaveLen(2))
			Expect(status.Details.Causes[1].Field).To(Equal("spec.containers[1].image"))
		})
	})

	Context("with key volumes that tenants write", func() {
		It("takes one that is as it would be added, and adds none", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage).KeyVolume("acme-chat", "main"))
			Expect(pod.Spec.Volumes).To(HaveLen(1))
			Expect(pod.Spec.Containers[0].VolumeMounts).To(HaveLen(1))
		})

		It("denies the key of a licence that is not granted", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("main", codeImage).KeyVolume("acme-code", "main"))
			Expect(err).To(beDenied(v1alpha1.ReasonNoGrant, "spec.volumes[0]"))
		})

		It("denies the key of a granted licence whose image is not used", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("main", plainImage).KeyVolume("acme-chat", "main"))
			Expect(err).To(beDenied(v1alpha1.ReasonModelNotReferenced))
		})

		It("denies a container that does not use the licence", func(ctx SpecContext) {
			_, err := create(ctx, server().Container("main", chatImage).Container("shell", plainImage).KeyVolume("acme-chat", "main", "shell"))
			Expect(err).To(beDenied(v1alpha1.ReasonModelNotReferenced, "container shell mounts the key of licence acme-chat"))
		})

		It("denies forms that the driver does not serve", func(ctx SpecContext) {
			pod := server().Container("main", chatImage).KeyVolume("acme-chat", "main").Obj()
			pod.Spec.Volumes[0].CSI.VolumeAttributes["key"] = "v1"
			Expect(a.client.Create(ctx, pod)).To(beDenied(v1alpha1.ReasonKeyVolumeInvalid))
			pod = server().Container("main", chatImage).KeyVolume("acme-chat", "main").Obj()
			pod.Spec.Volumes[0].CSI.ReadOnly = nil
			Expect(a.client.Create(ctx, pod)).To(beDenied(v1alpha1.ReasonKeyVolumeInvalid, "readOnly: true"))
		})
	})

	Context("on update", func() {
		It("denies another image in a pod that holds the key", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage).Container("proxy", plainImage))
			for i := range pod.Spec.Containers {
				swapped := pod.DeepCopy()
				swapped.Spec.Containers[i].Image = "quay.io/acme/shell:1"
				Expect(a.client.Update(ctx, swapped)).To(beDenied(v1alpha1.ReasonImageSwapped, "holds the key of licence acme-chat"))
			}
			pod.Spec.Containers[0].Image = "registry.example.com/models/chat:2.2"
			Expect(a.client.Update(ctx, pod)).To(Succeed())
		})

		It("decides on an image that becomes a governed one", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", plainImage))
			pod.Spec.Containers[0].Image = codeImage
			Expect(a.client.Update(ctx, pod)).To(beDenied(v1alpha1.ReasonNoGrant))
		})

		It("lets everything else pass after revocation, up to the end", func(ctx SpecContext) {
			pod := created(ctx, server().Finalizer("example.com/hold").Container("main", chatImage))
			a.revoke(ctx, chat(), code(), chatGrant())
			a.rights.freeze(true) // Nor may any of this wait for a live read.

			pod.Labels = map[string]string{"a": "b"}
			pod.Annotations = map[string]string{"a": "b"}
			Expect(a.client.Update(ctx, pod)).To(Succeed())
			pod.Status.Conditions = []corev1.PodCondition{{Type: "modelrights.dev/Licensed", Status: "False"}}
			Expect(a.client.Status().Update(ctx, pod)).To(Succeed())
			Expect(a.client.Delete(ctx, pod)).To(Succeed())
			Expect(a.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed(), "the finalizer holds it")
			pod.Finalizers = nil
			Expect(a.client.Update(ctx, pod)).To(Succeed())
			Expect(apierrors.IsNotFound(a.client.Get(ctx, client.ObjectKeyFromObject(pod), pod))).To(BeTrue())
		})

		It("denies images after revocation", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage))
			a.revoke(ctx, chatGrant())
			pod.Spec.Containers[0].Image = "registry.example.com/models/chat:2.2"
			Expect(a.client.Update(ctx, pod)).To(beDenied(v1alpha1.ReasonNoGrant))
		})

		It("lets a resize pass after revocation", func(ctx SpecContext) {
			pod := server().Container("main", chatImage).Obj()
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
			Expect(a.client.Create(ctx, pod)).To(Succeed())
			a.revoke(ctx, chat(), chatGrant())
			pod.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2")
			err := a.client.SubResource("resize").Update(ctx, pod)
			if slices.Contains(podSubresources(a), "resize") {
				Expect(err).NotTo(HaveOccurred())
			} else {
				Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
			}
		})
	})

	Context("with ephemeral containers", func() {
		attach := func(ctx SpecContext, pod *corev1.Pod, b *builders.PodBuilder) error {
			debugged := pod.DeepCopy()
			debugged.Spec.EphemeralContainers = b.Obj().Spec.EphemeralContainers
			return a.client.SubResource("ephemeralcontainers").Update(ctx, debugged)
		}

		It("decides on them as on any container", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage))
			debug := builders.Pod("", "")
			Expect(attach(ctx, pod, debug.EphemeralContainer("debug", codeImage))).
				To(beDenied(v1alpha1.ReasonNoGrant, `ephemeral container "debug" (spec.ephemeralContainers[0].image)`))
			Expect(attach(ctx, pod, builders.Pod("", "").EphemeralContainer("debug", "sha256:01ab"))).To(beDenied(v1alpha1.ReasonImageID))
			Expect(attach(ctx, pod, builders.Pod("", "").EphemeralContainer("debug", plainImage))).To(Succeed())
		})

		It("never lets them mount the key", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage))
			for _, image := range []string{plainImage, chatImage} {
				Expect(attach(ctx, pod, builders.Pod("", "").EphemeralContainer("debug", image).Mount("modelrights-acme-chat", "/k", "debug"))).
					To(beDenied(v1alpha1.ReasonKeyVolumeInvalid, "ephemeral container debug"))
			}
		})

		It("lets a plain one be added after revocation", func(ctx SpecContext) {
			pod := created(ctx, server().Container("main", chatImage))
			a.revoke(ctx, chat(), chatGrant())
			Expect(attach(ctx, pod, builders.Pod("", "").EphemeralContainer("debug", plainImage))).To(Succeed())
		})
	})

	Context("when memory is stale", func() {
		It("finds a grant of a moment ago by a live read, and brings the key", func(ctx SpecContext) {
			a.rights.freeze(false)
			Expect(a.client.Create(ctx, builders.Grant("ml-prod", "code", "acme-code").ServiceAccount("llm").Obj())).To(Succeed())
			pod := created(ctx, server().Container("main", codeImage))
			Expect(pod.Spec.Volumes).To(HaveLen(1))
		})

		It("denies governed pods, and only those, where the live read fails", func(ctx SpecContext) {
			a.rights.freeze(true)
			_, err := create(ctx, server().Container("main", codeImage))
			Expect(err).To(beDenied(v1alpha1.ReasonLookupFailed, codeImage, "try again"))
			created(ctx, server().Container("main", plainImage))
			created(ctx, server().Container("main", chatImage))
		})
	})

	Context("about denials", func() {
		It("logs them and tells the pod's controller", func(ctx SpecContext) {
			before := len(a.log.all())
			_, err := create(ctx, server().Owner("apps/v1", "ReplicaSet", "chat-6d5f", "9c1c0a4e-0000-4000-8000-000000000001").Container("main", codeImage))
			Expect(err).To(beDenied(v1alpha1.ReasonNoGrant))
			entries := a.log.all()[before:]
			Expect(entries).To(HaveLen(1))
			Expect(entries[0].Type).To(Equal(audit.Denied))
			Expect(entries[0].Namespace).To(Equal("ml-prod"))
			Expect(entries[0].Owner).To(Equal(audit.Owner{Kind: "ReplicaSet", Name: "chat-6d5f"}))
			Expect(entries[0].Images).To(Equal([]string{codeImage}))
			Expect(entries[0].Reason).To(Equal(v1alpha1.ReasonNoGrant))
			Expect(entries[0].License.UID).NotTo(BeEmpty())
			Expect(entries[0].Actor).NotTo(BeEmpty())
			Eventually(func(g Gomega) {
				var events eventsv1.EventList
				g.Expect(a.client.List(ctx, &events, client.InNamespace("ml-prod"))).To(Succeed())
				g.Expect(events.Items).To(ContainElement(And(
					HaveField("Regarding.Kind", "ReplicaSet"), HaveField("Regarding.Name", "chat-6d5f"), HaveField("Reason", "Denied"),
					HaveField("Type", "Warning"), HaveField("Note", ContainSubstring("[NoGrant]")),
				)))
			}).Should(Succeed())
		})

		It("does not log a dry run", func(ctx SpecContext) {
			before := len(a.log.all())
			pod := server().Container("main", codeImage).Obj()
			Expect(a.client.Create(ctx, pod, client.DryRunAll)).To(beDenied(v1alpha1.ReasonNoGrant))
			a.rights.freeze(true) // Then the mutating webhook denies.
			Expect(a.client.Create(ctx, server().Container("main", codeImage).Obj(), client.DryRunAll)).To(beDenied(v1alpha1.ReasonLookupFailed))
			Expect(a.log.all()).To(HaveLen(before))
		})
	})

	It("has rules for every subresource that can change a pod's images", func() {
		// A subresource that is in neither list is new: find out what it writes, and add it to the rules or to the second.
		decided := []string{"ephemeralcontainers", "resize"}
		harmless := []string{"attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"}
		for _, name := range podSubresources(a) {
			Expect(slices.Concat(decided, harmless)).To(ContainElement(name))
		}
		var rules []admissionregistrationv1.RuleWithOperations
		var configuration admissionregistrationv1.ValidatingWebhookConfigurationList
		Expect(a.client.List(GinkgoT().Context(), &configuration)).To(Succeed())
		for _, c := range configuration.Items {
			for _, w := range c.Webhooks {
				rules = append(rules, w.Rules...)
			}
		}
		for _, resource := range []string{"pods", "pods/ephemeralcontainers", "pods/resize"} {
			Expect(rules).To(ContainElement(And(
				HaveField("Rule.Resources", ContainElement(resource)), HaveField("Operations", ContainElement(admissionregistrationv1.Update)),
			)))
		}
	})
})

// podSubresources are those of pods that the API server serves.
func podSubresources(a *admission) []string {
	GinkgoHelper()
	d, err := discovery.NewDiscoveryClientForConfig(a.config)
	Expect(err).NotTo(HaveOccurred())
	resources, err := d.ServerResourcesForGroupVersion("v1")
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, r := range resources.APIResources {
		if len(r.Name) > len("pods/") && r.Name[:len("pods/")] == "pods/" {
			names = append(names, r.Name[len("pods/"):])
		}
	}
	Expect(names).NotTo(BeEmpty())
	return names
}
