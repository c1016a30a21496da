//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// account is the service account that grants name.
const account = "llm-server"

// tenant is a namespace under restricted pod security, with a licence of its own for the suite's model.
type tenant struct{ namespace, license string }

// newTenant makes a tenant without a grant, and removes everything after the spec. Each change is made to its licence.
func newTenant(ctx context.Context, changes ...func(*v1alpha1.ModelLicense)) tenant {
	GinkgoHelper()
	namespace := builders.Namespace("").Label("pod-security.kubernetes.io/enforce", "restricted").Obj()
	namespace.GenerateName = "e2e-"
	Expect(api.Create(ctx, namespace)).To(Succeed())
	t := tenant{namespace: namespace.Name, license: namespace.Name}
	license := builders.License(t.license).Repository(installed.registry + "/models/chat-7b").
		Repository(installed.registry + "/models/chat-7b-server").Key("v1").Namespaces(t.namespace).Obj()
	for _, change := range changes {
		change(license)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: license.Spec.Keys[0].SecretRef.Name},
		StringData: map[string]string{v1alpha1.DefaultSecretKey: installed.key},
	}
	for _, object := range []client.Object{secret, license} {
		Expect(api.Create(ctx, object)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(api.Delete(ctx, object))).To(Succeed()) })
	}
	DeferCleanup(func(ctx SpecContext) { Expect(api.Delete(ctx, namespace)).To(Succeed()) })
	Expect(api.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: account}})).To(Succeed())
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(license), license)).To(Succeed())
		g.Expect(meta.IsStatusConditionTrue(license.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue(), "the licence is not Ready: %v", license.Status.Conditions)
	}).Should(Succeed())
	return t
}

// newEntitledTenant makes a tenant with a grant for its account.
func newEntitledTenant(ctx context.Context, changes ...func(*v1alpha1.ModelLicense)) tenant {
	GinkgoHelper()
	t := newTenant(ctx, changes...)
	grant := builders.Grant(t.namespace, "chat", t.license).ServiceAccount(account).Obj()
	Expect(api.Create(ctx, grant)).To(Succeed())
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(grant), grant)).To(Succeed())
		g.Expect(meta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue(), "the grant is not Ready: %v", grant.Status.Conditions)
	}).Should(Succeed())
	return t
}

// pod starts a pod of the tenant's account, with a container named main.
func (t tenant) pod(name, image string, args ...string) *corev1.Pod {
	pod := builders.Pod(t.namespace, name).ServiceAccount(account).Container("main", image).Obj()
	pod.Spec.Containers[0].Args = args
	return restricted(pod)
}

// probe is a pod of the suite's own program that mounts the model, with a sidecar that does not.
func (t tenant) probe(name string) *corev1.Pod {
	pod := builders.Pod(t.namespace, name).ServiceAccount(account).
		Container("main", installed.probe).Container("sidecar", installed.probe).
		ImageVolume("model", installed.model, "main").Obj()
	pod.Spec.Containers[1].Args = []string{"-listen=:8081"}
	return restricted(pod)
}

// deployment is an inference server of one pod that mounts the model as an image volume.
func (t tenant) deployment(name string) *appsv1.Deployment {
	pod := builders.Pod("", "").ServiceAccount(account).Container("main", installed.inference).
		ImageVolume("model", installed.model, "main").Label("app", name).Obj()
	pod.Spec.Containers[0].Args = []string{"-model=/volumes/model/model"}
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
	}}
	restricted(pod)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
		},
	}
}

// restricted fills in what restricted pod security asks for, and lets pods end at once.
func restricted(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(65532)), RunAsGroup: ptr.To(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
	}
	return pod
}

// create creates a pod and returns it as stored.
func create(ctx context.Context, pod *corev1.Pod) *corev1.Pod {
	GinkgoHelper()
	// Where a spec before this one killed an operator, the API server may call it until its endpoint is taken away.
	Eventually(func(g Gomega) {
		err := api.Create(ctx, pod)
		if !apierrors.IsInternalError(err) {
			Expect(err).NotTo(HaveOccurred())
		}
		g.Expect(err).NotTo(HaveOccurred())
	}).Should(Succeed())
	return pod
}

// ready waits until the pod is.
func ready(ctx context.Context, pod *corev1.Pod) *corev1.Pod {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(api.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(isReady(pod)).To(BeTrue(), "pod %s is not ready: %s", pod.Name, summary(pod))
	}).Should(Succeed())
	return pod
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func summary(pod *corev1.Pod) string {
	text := string(pod.Status.Phase)
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Waiting != nil {
			text += fmt.Sprintf("; %s waits: %s %s", status.Name, status.State.Waiting.Reason, status.State.Waiting.Message)
		}
		if status.State.Terminated != nil {
			text += fmt.Sprintf("; %s ended: %s", status.Name, status.State.Terminated.Reason)
		}
	}
	return text
}

// remove deletes objects and waits until they are gone.
func remove(ctx context.Context, objects ...client.Object) {
	GinkgoHelper()
	for _, object := range objects {
		Expect(client.IgnoreNotFound(api.Delete(ctx, object))).To(Succeed())
	}
	for _, object := range objects {
		Eventually(func() error {
			return client.IgnoreNotFound(api.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopyObject().(client.Object)))
		}).Should(Succeed())
		Eventually(func() bool {
			return api.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopyObject().(client.Object)) != nil
		}).Should(BeTrue(), "%s is still there", object.GetName())
	}
}

// ask sends a GET to a pod through the API server and decodes the answer.
func ask(ctx context.Context, pod *corev1.Pod, port, path string, params map[string]string, into any) error {
	answer, err := clientset.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, port, path, params).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("GET %s of pod %s: %w", path, pod.Name, err)
	}
	return json.Unmarshal(answer, into)
}

// facts are what a container of the probe sees of keys; see test/e2e/probe.
type facts struct {
	KeyFile string `json:"keyFile"`
	Files   []struct {
		Path, Mode, SHA256, Error string
	} `json:"files"`
	Mounts   []string `json:"mounts"`
	Writable []string `json:"writable"`
}

// look asks the probe's container that listens on a port.
func look(ctx context.Context, pod *corev1.Pod, port string) facts {
	GinkgoHelper()
	var f facts
	Eventually(func() error { return ask(ctx, pod, port, "/facts", nil, &f) }).Should(Succeed())
	return f
}

// holdsKey says whether the probe's main container sees the right key.
func holdsKey(ctx context.Context, pod *corev1.Pod) bool {
	GinkgoHelper()
	return keySeen(look(ctx, pod, "8080")) == hash([]byte(installed.key))
}

// keySeen is the hash of the key file that a container sees; empty where it sees none.
func keySeen(f facts) string {
	for _, file := range f.Files {
		if path.Base(file.Path) == v1alpha1.KeyFileName {
			return file.SHA256
		}
	}
	return ""
}
