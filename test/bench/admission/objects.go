package main

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

const (
	operatorNamespace = "modelrights-system"

	// licensesAtFirst are created through the API server, with their grants. Pods use these, at every size.
	licensesAtFirst = 10
	// grantsPerLicense is how many grants each licence has, in as many namespaces where there are so many.
	grantsPerLicense = 10
	// grantsPerNamespace is how many grants a namespace of tenants has.
	grantsPerNamespace = 100
	// licensors is how many parties license models; each has a path of its own on the registry. There are more of them
	// than the webhooks' condition has room for.
	licensors = 100

	// registry is one at which nobody listens, on this machine: no registry is asked for anything.
	registry     = "localhost:1"
	governed     = registry + "/models/**"
	serviceAcct  = "inference"
	keySecretKey = "identity"
)

func licenseName(i int) string     { return fmt.Sprintf("model-%05d", i) }
func licensorName(i int) string    { return fmt.Sprintf("vendor-%02d", i%licensors) }
func tenantNamespace(i int) string { return fmt.Sprintf("tenant-%04d", i) }
func grantName(license, j int) string {
	return fmt.Sprintf("%s-g%d", licenseName(license), j)
}

// modelPath is the parent of the repositories of a licence. The licence names all of them by a pattern, so that there is no
// one repository of which a registry could be asked.
func modelPath(i int) string { return registry + "/models/" + licensorName(i) + "/" + licenseName(i) }

// namespaces is how many namespaces of tenants there are.
func namespaces(licenses int) int { return max(1, licenses*grantsPerLicense/grantsPerNamespace) }

// grantNamespace is where the j-th grant of a licence is, at the size at which the licence is added. The first grants of
// the first licences are for the pods that are measured, whose namespace has as many grants at every size.
func grantNamespace(license, j, licenses int) string {
	if license < licensesAtFirst && j == 0 {
		return namespaceOurs
	}
	n := namespaces(licenses)
	return tenantNamespace((license + j*max(1, n/grantsPerLicense)) % n)
}

// license is the i-th: one repository, one key, in force, for every namespace.
func license(i int, end time.Time) *v1alpha1.ModelLicense {
	return builders.License(licenseName(i)).Licensor(licensorName(i)+".example").Model(licenseName(i), "2.1").
		Repository(modelPath(i)+"/*").KeySecret("v1", licenseName(i)+"-v1", keySecretKey).NotAfter(end).Obj()
}

func grant(i, j, licenses int) *v1alpha1.ModelGrant {
	return builders.Grant(grantNamespace(i, j, licenses), grantName(i, j), licenseName(i)).ServiceAccount(serviceAcct).Obj()
}

func keySecret(i int, identity string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: licenseName(i) + "-v1"},
		StringData: map[string]string{keySecretKey: identity},
	}
}

func licensedImage(i int) string { return modelPath(i%licensesAtFirst) + "/weights:2.1" }

// unlicensedImage is in a governed repository, but nobody licensed it.
func unlicensedImage(i int) string {
	return fmt.Sprintf("%s/models/%s/unlicensed-%d/weights:1", registry, licensorName(i), i%licensesAtFirst)
}

// ordinaryImage is on the same registry as the models.
func ordinaryImage(i int) string {
	return fmt.Sprintf("%s/web/shop-%d:1.4.2", registry, i%licensesAtFirst)
}

// pod looks as pods do that a controller makes: one container that has the image, a sidecar and an init container,
// environment, probes, resources and the volumes that the API server adds for a service account.
func pod(namespace, image string) *corev1.Pod {
	sidecar := registry + "/platform/proxy:3.1.0@sha256:" + strings.Repeat("0123456789abcdef", 4)
	p := builders.Pod(namespace, "").GenerateName("chat-7d9c6b5f4-").ServiceAccount(serviceAcct).
		Label("app.kubernetes.io/name", "chat").Label("app.kubernetes.io/part-of", "assistant").Label("pod-template-hash", "7d9c6b5f4").
		Annotation("prometheus.io/scrape", "true").
		Owner("apps/v1", "ReplicaSet", "chat-7d9c6b5f4", "0f7bd8b0-6f8f-4a8f-9d6f-2d6b7a2f9c11").
		InitContainer("prepare", registry+"/platform/prepare:1.0").
		Container("main", image).Container("proxy", sidecar).
		EmptyDir("cache", "main").Obj()
	p.Spec.InitContainers[0].Args = []string{"--from", "/etc/settings", "--to", "/cache"}
	main, proxy := &p.Spec.Containers[0], &p.Spec.Containers[1]
	main.Args = []string{"--port=8000", "--max-model-len=8192", "--served-model-name=chat", "--log-level=info"}
	for i := range 12 {
		main.Env = append(main.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", i), Value: fmt.Sprintf("https://settings.example.com/v1/%d?team=assistant", i)})
	}
	main.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8000}}
	main.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}}
	main.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("8Gi")}}
	proxy.Args = []string{"--upstream=127.0.0.1:8000"}
	proxy.Env = []corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
	const token = "kube-api-access-x7k2p"
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: token, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(int64(3607))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}}})
	for _, c := range []*corev1.Container{&p.Spec.InitContainers[0], main, proxy} {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: token, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true})
	}
	return p
}
