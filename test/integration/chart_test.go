package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/test/builders"
)

// The chart is installed by helm into an API server without nodes: nothing runs, but everything is accepted, and what the
// roles and namespaces allow can be asked.
var _ = Describe("Chart", Ordered, ContinueOnFailure, func() {
	var (
		config     *rest.Config
		admin      client.Client
		kubeconfig string
	)

	// runHelm runs it against the API server, and returns what it prints.
	runHelm := func(args ...string) (string, error) {
		binary := os.Getenv("HELM")
		if binary == "" {
			binary = "../../_output/bin/helm"
		}
		out, err := exec.Command(binary, append(args, "--kubeconfig", kubeconfig, "--namespace", operatorNamespace)...).CombinedOutput()
		return string(out), err
	}
	helm := func(args ...string) {
		GinkgoHelper()
		out, err := runHelm(args...)
		Expect(err).NotTo(HaveOccurred(), out)
	}

	BeforeAll(func() {
		env := &envtest.Environment{}
		var err error
		config, err = env.Start() // Without the kinds, which the chart brings.
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(env.Stop)
		admin = clientOf(config)
		user, err := env.AddUser(envtest.User{Name: "helm", Groups: []string{"system:masters"}}, nil)
		Expect(err).NotTo(HaveOccurred())
		content, err := user.KubeConfig()
		Expect(err).NotTo(HaveOccurred())
		kubeconfig = filepath.Join(GinkgoT().TempDir(), "kubeconfig")
		Expect(os.WriteFile(kubeconfig, content, 0o600)).To(Succeed())
		helm("install", "modelrights", "../../charts/modelrights", "--create-namespace", "--set", "exemptNamespaces={restricted}")
	})

	It("installs the kinds, and restricted pod security finds no fault with the operator", func(ctx SpecContext) {
		Eventually(func() error { return admin.List(ctx, &v1alpha1.ModelAuditRecordList{}) }).Should(Succeed())

		deployment := &appsv1.Deployment{}
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "modelrights-operator"}, deployment)).To(Succeed())
		Expect(admin.Create(ctx, builders.Namespace("restricted").Label("pod-security.kubernetes.io/enforce", "restricted").Obj())).To(Succeed())
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "restricted", Name: "operator"}, Spec: deployment.Spec.Template.Spec}
		Expect(admin.Create(ctx, pod, client.DryRunAll)).To(Succeed())
	})

	It("lets the node driver's pod into its own namespace and into no restricted one", func(ctx SpecContext) {
		driver := &appsv1.DaemonSet{}
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: nodeNamespace, Name: "modelrights-node"}, driver)).To(Succeed())
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: nodeNamespace, Name: "driver"}, Spec: driver.Spec.Template.Spec}
		Expect(admin.Create(ctx, pod, client.DryRunAll)).To(Succeed())
		elsewhere := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "restricted", Name: "driver"}, Spec: driver.Spec.Template.Spec}
		Expect(admin.Create(ctx, elsewhere, client.DryRunAll)).To(MatchError(ContainSubstring("PodSecurity")))
	})

	It("lets pods of restricted namespaces have the key volume", func(ctx SpecContext) {
		readOnly, yes, no := true, true, false
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "restricted", Name: "server"},
			Spec: corev1.PodSpec{
				SecurityContext: &corev1.PodSecurityContext{
					RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
				Containers: []corev1.Container{{
					Name: "server", Image: "registry.example.com/models/chat:1",
					SecurityContext: &corev1.SecurityContext{
						AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					},
				}},
				Volumes: []corev1.Volume{{Name: "modelrights-acme", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
					Driver: v1alpha1.CSIDriverName, ReadOnly: &readOnly,
					VolumeAttributes: map[string]string{v1alpha1.VolumeAttributeLicense: "acme"},
				}}}},
			},
		}
		Expect(admin.Create(ctx, pod, client.DryRunAll)).To(Succeed())
	})

	It("has a CSIDriver that the API server keeps as it is", func(ctx SpecContext) {
		driver := &storagev1.CSIDriver{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: v1alpha1.CSIDriverName}, driver)).To(Succeed())
		Expect(driver.Spec.VolumeLifecycleModes).To(ConsistOf(storagev1.VolumeLifecycleEphemeral))
		Expect(*driver.Spec.RequiresRepublish).To(BeTrue())
		Expect(driver.Spec.TokenRequests).To(HaveLen(1))
		Expect(driver.Spec.TokenRequests[0].Audience).To(Equal("modelrights.dev/pod"))
	})

	pod := func(namespace, image string) *corev1.Pod {
		return builders.Pod(namespace, "any").Container("main", image).Obj()
	}
	// webhooks are the configurations' as they are.
	webhooks := func(ctx SpecContext) ([]admissionregistrationv1.MutatingWebhook, []admissionregistrationv1.ValidatingWebhook) {
		GinkgoHelper()
		mutating, validating := &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: admissionconfig.Pods}, mutating)).To(Succeed())
		Expect(admin.Get(ctx, client.ObjectKey{Name: admissionconfig.Pods}, validating)).To(Succeed())
		return mutating.Webhooks, validating.Webhooks
	}
	state := func() admissionconfig.State {
		return admissionconfig.State{Filter: filterOf("registry.example.com/models/**"), CABundle: config.CAData}
	}

	It("sends nothing to the operator before that was ready for the first time", func(ctx SpecContext) {
		Expect(admin.Create(ctx, builders.Namespace("ml-prod").Obj())).To(Succeed())
		Expect(admin.Create(ctx, pod("ml-prod", chatImage), client.DryRunAll)).To(Succeed())
		mutating, validating := webhooks(ctx)
		Expect(mutating).To(BeEmpty())
		Expect(validating).To(BeEmpty())
	})

	It("lets the operator say what it is sent, and from then on refuses that, and nothing else, while the operator is away", func(ctx SpecContext) {
		operator := actingAs(config, operatorUser, "system:serviceaccounts")
		settings := operatorSettings()
		mutating, err := admissionconfig.MutatingApply(admissionconfig.Pods, admissionconfig.MutatingPods(settings, state()))
		Expect(err).NotTo(HaveOccurred())
		Expect(operator.Apply(ctx, mutating, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())
		validating, err := admissionconfig.ValidatingApply(admissionconfig.Pods, admissionconfig.ValidatingPods(settings, state()))
		Expect(err).NotTo(HaveOccurred())
		Expect(operator.Apply(ctx, validating, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())
		workloads, err := admissionconfig.ValidatingApply(admissionconfig.Workloads, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(operator.Apply(ctx, workloads, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())

		Eventually(func() error { return admin.Create(ctx, pod("ml-prod", chatImage), client.DryRunAll) }).
			Should(MatchError(ContainSubstring("pods.modelrights.dev")))
		Expect(admin.Create(ctx, pod("ml-prod", plainImage), client.DryRunAll)).To(Succeed())
		for _, namespace := range []string{"kube-system", operatorNamespace, nodeNamespace} {
			Expect(admin.Create(ctx, pod(namespace, chatImage), client.DryRunAll)).To(Succeed(), namespace)
		}
	})

	It("holds what the API server would have added, so that the operator tells changes of others from its own", func(ctx SpecContext) {
		mutating, validating := webhooks(ctx)
		Expect(admissionconfig.SameMutating(mutating, admissionconfig.MutatingPods(operatorSettings(), state()))).To(BeTrue())
		Expect(admissionconfig.SameValidating(validating, admissionconfig.ValidatingPods(operatorSettings(), state()))).To(BeTrue())
	})

	It("keeps what the operator wrote when it is upgraded, and when it is applied by others", func(ctx SpecContext) {
		mutating, validating := webhooks(ctx)
		helm("upgrade", "modelrights", "../../charts/modelrights", "--set", "exemptNamespaces={restricted,monitoring}")
		for _, object := range configManifests("webhook") {
			apply := client.ApplyConfigurationFromUnstructured(object)
			Expect(admin.Apply(ctx, apply, client.FieldOwner("kubectl"), client.ForceOwnership)).To(Succeed())
		}
		helm("upgrade", "modelrights", "../../charts/modelrights", "--set", "exemptNamespaces={restricted}")
		nowMutating, nowValidating := webhooks(ctx)
		Expect(nowMutating).To(Equal(mutating))
		Expect(nowValidating).To(Equal(validating))
	})

	It("does not hide the path from those who create pods while the operator cannot be reached, as the threat model says", func(ctx SpecContext) {
		Expect(admin.Create(ctx, pod("ml-prod", chatImage), client.DryRunAll)).To(MatchError(ContainSubstring(pathSecret)))
	})

	It("lets the operator publish and watch the CA, and no other ConfigMap", func(ctx SpecContext) {
		operator := actingAs(config, operatorUser, "system:serviceaccounts")
		publish := func(name string) error {
			return operator.Apply(ctx, applycorev1.ConfigMap(name, nodeNamespace).WithData(map[string]string{"ca.crt": "any"}), client.FieldOwner("modelrights-operator"))
		}
		Expect(publish("other")).To(WithTransform(apierrors.IsForbidden, BeTrue()))
		Expect(publish("modelrights-ca")).To(Succeed(), "created")
		Expect(publish("modelrights-ca")).To(Succeed(), "written again")

		var found corev1.ConfigMapList
		Expect(operator.List(ctx, &found, client.InNamespace(nodeNamespace), client.MatchingFields{"metadata.name": "modelrights-ca"})).To(Succeed())
		Expect(found.Items).To(HaveLen(1))
		Expect(operator.List(ctx, &found, client.InNamespace(nodeNamespace))).To(WithTransform(apierrors.IsForbidden, BeTrue()))
	})

	It("is installed once in a cluster", func() {
		out, err := runHelm("install", "second", "../../charts/modelrights", "--set", "node.namespace=second-node")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("release-name"))
	})

	DescribeTable("gives the accounts what they need and no more",
		func(ctx SpecContext, user, namespace, verb, group, resource, name string, want bool) {
			resource, subresource, _ := strings.Cut(resource, "/")
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: user, Groups: []string{"system:serviceaccounts", "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource, Name: name,
				},
			}}
			Expect(admin.Create(ctx, review)).To(Succeed())
			Expect(review.Status.Allowed).To(Equal(want), "%s: %s %s/%s %s in %q", user, verb, resource, subresource, name, namespace)
		},
		Entry(nil, operatorUser, operatorNamespace, "get", "", "secrets", "acme-key", true),
		Entry(nil, operatorUser, operatorNamespace, "update", "", "secrets", "modelrights-serving-cert", true),
		Entry(nil, operatorUser, operatorNamespace, "update", "", "secrets", "acme-key", false),
		Entry(nil, operatorUser, operatorNamespace, "patch", "", "secrets", "modelrights-serving-cert", false),
		Entry(nil, operatorUser, operatorNamespace, "create", "", "secrets", "modelrights-webhook-path", true),
		Entry(nil, operatorUser, operatorNamespace, "get", "", "secrets", "modelrights-webhook-path", true),
		Entry(nil, operatorUser, operatorNamespace, "update", "", "secrets", "modelrights-webhook-path", false),
		Entry(nil, operatorUser, operatorNamespace, "delete", "", "secrets", "acme-key", false),
		Entry(nil, operatorUser, operatorNamespace, "update", "coordination.k8s.io", "leases", "modelrights-operator", true),
		Entry(nil, operatorUser, operatorNamespace, "update", "coordination.k8s.io", "leases", "other", false),
		Entry(nil, operatorUser, "ml-prod", "get", "", "secrets", "any", false),
		Entry(nil, operatorUser, nodeNamespace, "get", "", "secrets", "any", false),
		Entry(nil, operatorUser, nodeNamespace, "patch", "", "configmaps", "modelrights-ca", true),
		Entry(nil, operatorUser, nodeNamespace, "watch", "", "configmaps", "modelrights-ca", true),
		Entry(nil, operatorUser, nodeNamespace, "watch", "", "configmaps", "", false),
		Entry(nil, operatorUser, nodeNamespace, "patch", "", "configmaps", "other", false),
		Entry(nil, operatorUser, nodeNamespace, "create", "", "configmaps", "other", false),
		Entry(nil, operatorUser, nodeNamespace, "delete", "", "configmaps", "modelrights-ca", false),
		Entry(nil, operatorUser, operatorNamespace, "get", "", "configmaps", "any", false),
		Entry(nil, operatorUser, "ml-prod", "get", "", "pods", "any", true),
		Entry(nil, operatorUser, "ml-prod", "patch", "", "pods", "any", true), // its gate, and its annotation
		Entry(nil, operatorUser, "ml-prod", "update", "", "pods", "any", false),
		Entry(nil, operatorUser, "ml-prod", "patch", "", "pods/status", "any", true),
		Entry(nil, operatorUser, "ml-prod", "update", "", "pods/status", "any", false),
		Entry(nil, operatorUser, "ml-prod", "update", "modelrights.dev", "modelgrants/status", "any", true),
		Entry(nil, operatorUser, "ml-prod", "patch", "modelrights.dev", "modelgrants/status", "any", true),
		Entry(nil, operatorUser, "ml-prod", "create", "", "pods", "any", false),
		Entry(nil, operatorUser, "ml-prod", "delete", "", "pods", "any", true), // revoked ones that a budget holds
		Entry(nil, operatorUser, "ml-prod", "deletecollection", "", "pods", "any", false),
		Entry(nil, operatorUser, "", "update", "modelrights.dev", "modelseats", "any", true),
		Entry(nil, operatorUser, "", "patch", "modelrights.dev", "modellicenses", "any", false),
		Entry(nil, operatorUser, "", "patch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "modelrights-pods", true),
		Entry(nil, operatorUser, "", "patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "modelrights-pods", true),
		Entry(nil, operatorUser, "", "watch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "modelrights-pods", true),
		Entry(nil, operatorUser, "", "patch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "modelrights-workloads", true),
		Entry(nil, operatorUser, "", "watch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", false),
		Entry(nil, operatorUser, "", "patch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "other", false),
		Entry(nil, operatorUser, "", "create", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "modelrights-pods", false),
		Entry(nil, operatorUser, "", "delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "modelrights-pods", false),
		Entry(nil, operatorUser, "", "create", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", false),
		Entry(nil, operatorUser, "", "create", "modelrights.dev", "modelauditrecords", "", true),
		Entry(nil, operatorUser, "", "delete", "modelrights.dev", "modelauditrecords", "", false),
		Entry(nil, operatorUser, "", "update", "modelrights.dev", "modelauditrecords", "", false),
		Entry(nil, operatorUser, "", "update", "modelrights.dev", "modellicenses", "acme", false),
		Entry(nil, operatorUser, "", "grant", "modelrights.dev", "modellicenses", "acme", false),
		Entry(nil, operatorUser, "", "create", "authentication.k8s.io", "tokenreviews", "", true),
		Entry(nil, operatorUser, operatorNamespace, "create", "", "serviceaccounts/token", "any", false),
		Entry(nil, nodeUser, "", "get", "modelrights.dev", "modellicenses", "acme", false),
		Entry(nil, nodeUser, operatorNamespace, "get", "", "secrets", "any", false),
		Entry(nil, nodeUser, nodeNamespace, "get", "", "configmaps", "modelrights-ca", false),
		Entry(nil, nodeUser, "ml-prod", "get", "", "pods", "any", false),
		Entry(nil, nodeUser, "", "create", "authentication.k8s.io", "tokenreviews", "", false),
	)

	It("leaves licences and records behind when it is uninstalled", func(ctx SpecContext) {
		operator := actingAs(config, operatorUser, "system:serviceaccounts")
		Expect(operator.Create(ctx, auditRecord(0))).To(Succeed())
		helm("uninstall", "modelrights")
		Expect(admin.Get(ctx, client.ObjectKeyFromObject(auditRecord(0)), &v1alpha1.ModelAuditRecord{})).To(Succeed())
		err := admin.Get(ctx, client.ObjectKey{Name: "modelrights-pods"}, &admissionregistrationv1.ValidatingWebhookConfiguration{})
		Expect(apierrors.IsNotFound(err)).To(BeTrue(), "the webhooks are gone: %v", err)
		Eventually(func() error { return admin.Create(ctx, pod("ml-prod", chatImage), client.DryRunAll) }).Should(Succeed())
	})

	It("takes over what it left behind when it is installed again", func(ctx SpecContext) {
		// The namespace of the first installation is never quite gone here: that takes a controller manager.
		helm("install", "modelrights", "../../charts/modelrights", "--set", "node.namespace=another-node")
		Expect(admin.Get(ctx, client.ObjectKeyFromObject(auditRecord(0)), &v1alpha1.ModelAuditRecord{})).To(Succeed())
	})

	// Charts before this one brought the webhooks themselves. Helm takes away what it brought, with what the operator had
	// filled in: until the first replica of the new version runs, which needs no leadership to write them anew, nothing is
	// sent. docs/decisions/0006 says so.
	It("takes webhooks of its own away that it brought before", func(ctx SpecContext) {
		before := GinkgoT().TempDir()
		Expect(os.CopyFS(before, os.DirFS("../../charts/modelrights"))).To(Succeed())
		template := filepath.Join(before, "templates/webhook/mutating.yaml")
		content, err := os.ReadFile(template)
		Expect(err).NotTo(HaveOccurred())
		content = append(content, []byte("webhooks:\n- name: mutate.pods.modelrights.dev\n  admissionReviewVersions: [v1]\n  sideEffects: None\n"+
			"  clientConfig: {service: {name: modelrights-webhook, namespace: {{ .Release.Namespace }}}}\n  namespaceSelector: {matchLabels: {never: selected}}\n")...)
		Expect(os.WriteFile(template, content, 0o600)).To(Succeed())
		helm("upgrade", "modelrights", before, "--set", "node.namespace=another-node")
		mutating, _ := webhooks(ctx)
		Expect(mutating).To(HaveLen(1))
		live := &admissionregistrationv1.MutatingWebhookConfiguration{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: admissionconfig.Pods}, live)).To(Succeed())
		live.Webhooks[0].ClientConfig.CABundle = config.CAData
		Expect(admin.Update(ctx, live, client.FieldOwner("modelrights-operator"))).To(Succeed())

		helm("upgrade", "modelrights", "../../charts/modelrights", "--set", "node.namespace=another-node")
		mutating, _ = webhooks(ctx)
		Expect(mutating).To(BeEmpty())
	})
})
