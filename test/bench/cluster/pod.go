package cluster

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/test/builders"
)

// Pod looks as pods do that a controller makes: one container that has the image, a sidecar and an init container,
// environment, probes, resources and the volumes that the API server adds for a service account.
func Pod(namespace, image string) *corev1.Pod {
	sidecar := Registry + "/platform/proxy:3.1.0@sha256:" + strings.Repeat("0123456789abcdef", 4)
	p := builders.Pod(namespace, "").GenerateName("chat-7d9c6b5f4-").ServiceAccount(ServiceAccount).
		Label("app.kubernetes.io/name", "chat").Label("app.kubernetes.io/part-of", "assistant").Label("pod-template-hash", "7d9c6b5f4").
		Annotation("prometheus.io/scrape", "true").
		Owner("apps/v1", "ReplicaSet", "chat-7d9c6b5f4", "0f7bd8b0-6f8f-4a8f-9d6f-2d6b7a2f9c11").
		InitContainer("prepare", Registry+"/platform/prepare:1.0").
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
