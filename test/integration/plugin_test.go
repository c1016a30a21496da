package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/plugin"
	"modelrights.dev/modelrights/test/builders"
)

// kubectl modelrights against an API server, as an admin and as users who may see less.
var _ = Describe("kubectl modelrights", Ordered, ContinueOnFailure, func() {
	const (
		chat = "registry.example.com/models/chat:1"
		// engineer sees grants and pods of ml-prod; reader, besides, the licence that is granted there; stranger nothing.
		engineer, reader, stranger = "engineer@example.com", "reader@example.com", "stranger@example.com"
	)
	var kubeconfig string

	// run runs a command line, and returns what it prints.
	run := func(ctx SpecContext, stdin string, args ...string) (status int, out, errOut string) {
		GinkgoHelper()
		streams, in, o, e := genericiooptions.NewTestIOStreams()
		in.WriteString(stdin)
		status = plugin.Run(ctx, append(args, "--kubeconfig", kubeconfig, "--cache-dir", filepath.Join(filepath.Dir(kubeconfig), "cache")), streams)
		return status, o.String(), e.String()
	}
	explained := func(out string) plugin.ExplanationList {
		GinkgoHelper()
		var list plugin.ExplanationList
		Expect(json.Unmarshal([]byte(out), &list)).To(Succeed(), out)
		return list
	}
	manifest := func(namespace, account, image string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"new","namespace":"` + namespace + `"},"spec":{"serviceAccountName":"` + account +
			`","containers":[{"name":"c","image":"` + image + `"}]}}`
	}

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		admin := clientOf(config)
		user, err := env.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
		Expect(err).NotTo(HaveOccurred())
		content, err := user.KubeConfig()
		Expect(err).NotTo(HaveOccurred())
		kubeconfig = filepath.Join(GinkgoT().TempDir(), "kubeconfig")
		Expect(os.WriteFile(kubeconfig, content, 0o600)).To(Succeed())

		for _, namespace := range []string{operatorNamespace, nodeNamespace, "ml-prod", "ml-dev"} {
			Expect(admin.Create(ctx, builders.Namespace(namespace).Obj())).To(Succeed())
		}
		applyConfig(ctx, admin, "rbac")
		var info corev1.ConfigMap
		Expect(admin.Get(ctx, client.ObjectKey{Namespace: "kube-public", Name: "modelrights-info"}, &info)).To(Succeed())
		info.Data["governedRepositories"] = "registry.example.com/models/**"
		Expect(admin.Update(ctx, &info)).To(Succeed())

		Expect(admin.Create(ctx, builders.License("acme-chat").Repository("registry.example.com/models/chat").Key("v1").Namespaces("ml-prod").Obj())).To(Succeed())
		Expect(admin.Create(ctx, builders.License("acme-old").Repository("ghcr.io/acme/old").Key("v1").Namespaces("ml-prod").NotAfter(time.Now().Add(-time.Hour)).Obj())).To(Succeed())
		Expect(admin.Create(ctx, builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm-server").Obj())).To(Succeed())
		Expect(admin.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ml-prod", Name: "llm-server"}})).To(Succeed())

		pod := builders.Pod("ml-prod", "chat-0").ServiceAccount("llm-server").Container("server", chat).KeyVolume("acme-chat", "server").Obj()
		Expect(admin.Create(ctx, pod)).To(Succeed())
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: v1alpha1.PodConditionLicensed, Status: corev1.ConditionTrue, Reason: "Entitled", Message: "licence acme-chat [0123456789ab]", LastTransitionTime: metav1.Now(),
		}}
		Expect(admin.Status().Update(ctx, pod)).To(Succeed())
		for i, controller := range []string{"modelrights-operator", "kubelet"} {
			Expect(admin.Create(ctx, &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: "ml-prod", Name: "chat-0." + string(rune('a'+i))},
				InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "ml-prod", Name: "chat-0", UID: pod.UID},
				Type:           corev1.EventTypeNormal, Reason: "Admitted", Message: "by " + controller, ReportingController: controller,
				ReportingInstance: "any", Action: "Admit", EventTime: metav1.NowMicro(),
			})).To(Succeed())
		}
		deployment := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ml-prod", Name: "chat"},
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "chat"}},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chat"}},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: chat}}},
				},
			},
		}
		Expect(admin.Create(ctx, deployment)).To(Succeed())

		Expect(admin.Create(ctx, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "see-workloads"},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods", "namespaces", "events"}, Verbs: []string{"get", "list"}},
				{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "list"}},
			},
		})).To(Succeed())
		Expect(admin.Create(ctx, &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "see-acme-chat"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"modelrights.dev"}, Resources: []string{"modellicenses"}, ResourceNames: []string{"acme-chat"}, Verbs: []string{"get"}}},
		})).To(Succeed())
		for _, user := range []string{engineer, reader} {
			bindRole(ctx, admin, "ml-prod", "see-workloads", user)
			bindRole(ctx, admin, "ml-prod", "modelrights-viewer", user)
		}
		bindRole(ctx, admin, "", "see-acme-chat", reader)
		// Roles take effect a moment after they are bound.
		Eventually(func() error {
			return actingAs(config, reader).Get(ctx, client.ObjectKey{Name: "acme-chat"}, &v1alpha1.ModelLicense{})
		}).Should(Succeed())
		Eventually(func() error {
			return actingAs(config, stranger).Get(ctx, client.ObjectKeyFromObject(&info), &corev1.ConfigMap{})
		}).Should(Succeed(), "everybody reads what the installation tells its users")
		Eventually(func() error {
			return actingAs(config, engineer).List(ctx, &v1alpha1.ModelGrantList{}, client.InNamespace("ml-prod"))
		}).Should(Succeed())
	})

	It("explains a pod, with what was logged and what happened to it", func(ctx SpecContext) {
		status, out, errOut := run(ctx, "", "explain", "pod/chat-0", "-n", "ml-prod", "-o", "json")
		Expect(errOut).To(BeEmpty())
		Expect(status).To(Equal(plugin.StatusOK))
		item := explained(out).Items[0]
		Expect(item.Verdict).To(Equal(plugin.Entitled))
		Expect(item.Admission.Condition.Message).To(ContainSubstring("acme-chat"))
		Expect(item.Admission.KeyVolumes).To(ConsistOf(plugin.KeyVolume{Name: "modelrights-acme-chat", License: "acme-chat", Containers: []string{"server"}}))
		Expect(item.Admission.Events).To(HaveLen(1), "those of others are left out")
		Expect(item.Admission.Events[0].Message).To(Equal("by modelrights-operator"))
	})

	It("explains a workload whose pods are refused, and says who can change that", func(ctx SpecContext) {
		status, out, errOut := run(ctx, "", "explain", "deployment/chat", "-n", "ml-prod")
		Expect(status).To(Equal(plugin.StatusFindings))
		Expect(errOut).To(Equal("error: 1 reference refused\n"))
		Expect(out).To(And(
			ContainSubstring("deployment/chat: Refused"),
			ContainSubstring("SubjectNotGranted"),
			ContainSubstring("Who can:  whoever holds verb grant"),
			MatchRegexp(`Subject +the grant names the service account +failed \[SubjectNotGranted\]`),
			MatchRegexp(`Action +the licence allows the grant's action +not reached`),
		))
	})

	It("takes several objects, by type and name as kubectl does", func(ctx SpecContext) {
		status, out, _ := run(ctx, "", "explain", "deploy/chat", "po/chat-0", "-n", "ml-prod", "-o", "json")
		Expect(status).To(Equal(plugin.StatusFindings))
		Expect(explained(out).Items).To(HaveLen(2))
		status, out, _ = run(ctx, "", "explain", "pods,deployments", "--all-namespaces", "-o", "json")
		Expect(status).To(Equal(plugin.StatusFindings))
		Expect(explained(out).Items).To(HaveLen(2))
		Expect(explained(out).Items[0].Admission).NotTo(BeNil(), "a pod of a list is known to be a pod")
		status, _, errOut := run(ctx, "", "explain", "pod/none", "-n", "ml-prod")
		Expect(status).To(Equal(plugin.StatusError))
		Expect(errOut).To(ContainSubstring(`pods "none" not found`))
	})

	DescribeTable("decides on manifests by exit status",
		func(ctx SpecContext, user, namespace, account, image string, verdict plugin.Verdict, reason v1alpha1.Reason, status int, says ...string) {
			args := []string{"explain", "-f", "-", "-o", "json"}
			if user != "" {
				args = append(args, "--as", user)
			}
			got, out, errOut := run(ctx, manifest(namespace, account, image), args...)
			Expect(got).To(Equal(status), errOut)
			reference := explained(out).Items[0].References[0]
			Expect(reference.Verdict).To(Equal(verdict))
			if reason != "" {
				Expect(reference.Reason).To(Equal(reason))
			}
			for _, text := range says {
				Expect(errOut).To(ContainSubstring(text))
			}
		},
		Entry("entitled", "", "ml-prod", "llm-server", chat, plugin.Entitled, v1alpha1.ReasonEntitled, plugin.StatusOK),
		Entry("not governed", "", "ml-prod", "x", "busybox:1", plugin.NotGoverned, v1alpha1.ReasonNotGoverned, plugin.StatusOK),
		Entry("not granted to the account", "", "ml-prod", "x", chat, plugin.Refused, v1alpha1.ReasonSubjectNotGranted, plugin.StatusFindings),
		Entry("not licensed in the namespace", "", "ml-dev", "x", chat, plugin.Refused, v1alpha1.ReasonNamespaceNotAllowed, plugin.StatusFindings),
		Entry("expired", "", "ml-prod", "x", "ghcr.io/acme/old:1", plugin.Refused, v1alpha1.ReasonExpired, plugin.StatusFindings),
		Entry("governed without a licence", "", "ml-prod", "x", "registry.example.com/models/new:1", plugin.Refused, v1alpha1.ReasonUnlicensed, plugin.StatusFindings),
		Entry("a reader who may get the licence that is granted", reader, "ml-prod", "llm-server", chat, plugin.Entitled, v1alpha1.ReasonEntitled, plugin.StatusOK,
			`"reader@example.com" may not list modellicenses.modelrights.dev in the whole cluster`, "ask a cluster admin for: kubectl create clusterrolebinding"),
		Entry("a reader, on what no licence they see covers", reader, "ml-prod", "x", "ghcr.io/acme/old:1", plugin.Unknown, v1alpha1.Reason(""), plugin.StatusError, "could not be decided"),
		Entry("an engineer who may not see the licence that is granted", engineer, "ml-prod", "llm-server", chat, plugin.Unknown, v1alpha1.Reason(""), plugin.StatusError,
			`"engineer@example.com" may not get modellicenses.modelrights.dev/acme-chat`),
		Entry("a stranger", stranger, "ml-prod", "llm-server", chat, plugin.Unknown, v1alpha1.Reason(""), plugin.StatusError,
			`"stranger@example.com" may not list modelgrants.modelrights.dev in namespace ml-prod`, "kubectl -n ml-prod create rolebinding view-stranger-example-com --clusterrole=view --user=stranger@example.com"),
	)

	It("tells a user who may not read a pod which verb is missing, and whom to ask", func(ctx SpecContext) {
		status, out, errOut := run(ctx, "", "explain", "pod/chat-0", "-n", "ml-prod", "--as", stranger)
		Expect(status).To(Equal(plugin.StatusError))
		Expect(out).To(BeEmpty())
		Expect(errOut).To(And(ContainSubstring(`cannot get resource "pods"`), ContainSubstring("ask an admin of namespace ml-prod for: kubectl -n ml-prod create rolebinding")))
	})

	It("prints the versions that it sees, and completes what there is", func(ctx SpecContext) {
		status, out, errOut := run(ctx, "", "version", "--as", stranger)
		Expect(status).To(Equal(plugin.StatusOK), errOut)
		Expect(out).To(Equal("Client Version: dev\nServer Version: 0.1.0\n"))

		streams, _, words, _ := genericiooptions.NewTestIOStreams()
		line := []string{"explain", "--kubeconfig", kubeconfig, "-n", "ml-prod", "deployment/"}
		Expect(plugin.Run(ctx, plugin.CompletionArgs(plugin.CompletionName, line), streams)).To(Equal(plugin.StatusOK))
		Expect(strings.Fields(words.String())).To(ContainElement("deployment/chat"))
	})

	It("says so where modelrights is not installed", func(ctx SpecContext) {
		env := &envtest.Environment{} // An API server without the kinds.
		_, err := env.Start()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(env.Stop)
		user, err := env.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
		Expect(err).NotTo(HaveOccurred())
		content, err := user.KubeConfig()
		Expect(err).NotTo(HaveOccurred())
		bare := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
		Expect(os.WriteFile(bare, content, 0o600)).To(Succeed())

		streams, in, out, errOut := genericiooptions.NewTestIOStreams()
		in.WriteString(manifest("default", "x", chat))
		Expect(plugin.Run(ctx, []string{"explain", "-f", "-", "--kubeconfig", bare}, streams)).To(Equal(plugin.StatusError))
		Expect(out.String()).To(BeEmpty())
		Expect(errOut.String()).To(ContainSubstring("modelrights is not installed there"))
	})
})
