package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"

	"modelrights.dev/modelrights/internal/admissionconfig"
)

// TestTokensInSecrets: API servers before 1.35 do not know the field, and strict clients refuse it there.
func TestTokensInSecrets(t *testing.T) {
	for version, want := range map[string]bool{"1.32.0": false, "1.34.9": false, "1.35.0": true, "1.35.0-alpha.1": true, "1.37.1+vendor.2": true} {
		t.Run(version, func(t *testing.T) {
			driver := as[storagev1.CSIDriver](t, render(t, "--kube-version", version), "CSIDriver /node.modelrights.dev")
			got := driver.Spec.ServiceAccountTokenInSecrets
			if (got != nil && *got) != want || (got != nil) != want {
				t.Errorf("serviceAccountTokenInSecrets is %v, want it set: %t", got, want)
			}
		})
	}
}

func TestTooOldKubernetes(t *testing.T) {
	if _, err := template(t, "--kube-version", "1.31.9"); err == nil || !strings.Contains(err.Error(), "kubeVersion") {
		t.Errorf("Kubernetes 1.31 is not refused for its version: %v", err)
	}
}

// TestWebhooks: the chart brings the configurations, and leaves to the operator what is in them. What it said there would
// be taken back on every upgrade.
func TestWebhooks(t *testing.T) {
	all := render(t, "--set", "certManager.enabled=true")
	for _, identity := range []string{
		"MutatingWebhookConfiguration /" + admissionconfig.Pods, "ValidatingWebhookConfiguration /" + admissionconfig.Pods,
		"ValidatingWebhookConfiguration /" + admissionconfig.Workloads, "ValidatingWebhookConfiguration /" + admissionconfig.Exec,
	} {
		object, ok := all[identity]
		if !ok {
			t.Errorf("%s is not rendered: the operator creates none", identity)
			continue
		}
		if _, ok := object.Object["webhooks"]; ok {
			t.Errorf("%s has webhooks", identity)
		}
		if len(object.GetAnnotations()) > 0 {
			t.Errorf("%s is annotated: nobody but the operator fills in a CA", identity)
		}
	}
}

// TestReplicas: pods that name models start while a replica is away, in clusters of one node too.
func TestReplicas(t *testing.T) {
	all := render(t)
	deployment := as[appsv1.Deployment](t, all, "Deployment "+operatorNamespace+"/modelrights-operator")
	if *deployment.Spec.Replicas != 3 {
		t.Errorf("%d replicas, want 3", *deployment.Spec.Replicas)
	}
	if update := deployment.Spec.Strategy.RollingUpdate; update == nil || update.MaxUnavailable.IntValue() != 0 {
		t.Errorf("an upgrade takes replicas away before there are others: %+v", update)
	}
	spread := map[string]bool{}
	for _, c := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
		spread[c.TopologyKey] = c.WhenUnsatisfiable == corev1.ScheduleAnyway
	}
	if !spread["kubernetes.io/hostname"] || !spread["topology.kubernetes.io/zone"] {
		t.Errorf("replicas are not spread, or cannot be scheduled on one node: %v", spread)
	}
	budget := as[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget "+operatorNamespace+"/modelrights-operator")
	if budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("drains may take %v replicas at once", budget.Spec.MaxUnavailable)
	}
}

func TestOperatorArguments(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"governed repositories": {
			[]string{"--set", "governedRepositories={a.example/models/**,b.example/m}"},
			[]string{"--governed-repository=a.example/models/**", "--governed-repository=b.example/m"},
		},
		"exempt namespaces":         {[]string{"--set", "exemptNamespaces={monitoring,backup}"}, []string{"--exempt-namespace=monitoring", "--exempt-namespace=backup"}},
		"self-managed certificates": {nil, []string{"--cert-management=self"}},
		"cert-manager":              {[]string{"--set", "certManager.enabled=true"}, []string{"--cert-management=external"}},
		"node namespace":            {[]string{"--set", "node.namespace=elsewhere"}, []string{"--node-namespace=elsewhere"}},
		"own account":               {nil, []string{"--operator-service-account=modelrights-operator"}},
	} {
		t.Run(name, func(t *testing.T) {
			deployment := as[appsv1.Deployment](t, render(t, test.args...), "Deployment "+operatorNamespace+"/modelrights-operator")
			for _, want := range test.want {
				if !slices.Contains(deployment.Spec.Template.Spec.Containers[0].Args, want) {
					t.Errorf("arguments %v lack %s", deployment.Spec.Template.Spec.Containers[0].Args, want)
				}
			}
		})
	}
}

// TestMemory: the operator knows the limit that the kernel holds it to, and requests are within it.
func TestMemory(t *testing.T) {
	container := as[appsv1.Deployment](t, render(t), "Deployment "+operatorNamespace+"/modelrights-operator").Spec.Template.Spec.Containers[0]
	i := slices.IndexFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == "MEMORY_LIMIT_BYTES" })
	if i < 0 {
		t.Fatal("MEMORY_LIMIT_BYTES is not set")
	}
	ref := container.Env[i].ValueFrom.ResourceFieldRef
	if ref == nil || ref.ContainerName != container.Name || ref.Resource != "limits.memory" || ref.Divisor.Value() != 1 {
		t.Errorf("MEMORY_LIMIT_BYTES comes from %+v, want the container's memory limit in bytes", ref)
	}
	limit, request := container.Resources.Limits.Memory(), container.Resources.Requests.Memory()
	if limit.Cmp(*request) < 0 || limit.Value() < 2<<30 {
		t.Errorf("memory is requested %s and limited to %s, want at least 2Gi", request, limit)
	}
}

// TestOtherNamespaces: every object that has a namespace is in one of the two, and nothing else names the defaults.
func TestOtherNamespaces(t *testing.T) {
	out, err := template(t, "--namespace", "rights", "--set", "node.namespace=rights-node")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, operatorNamespace) || strings.Contains(line, "namespace: "+nodeNamespace) {
			t.Errorf("names a default namespace: %s", line)
		}
	}
}

func TestOptionalObjects(t *testing.T) {
	for name, test := range map[string]struct {
		set           string
		there, absent []string
	}{
		"default": {
			"operator.replicas=2",
			[]string{"PodDisruptionBudget modelrights-system/modelrights-operator", "NetworkPolicy modelrights-node/modelrights-node", "Namespace /modelrights-node", "CustomResourceDefinition /modellicenses.modelrights.dev"},
			[]string{"ServiceMonitor modelrights-system/modelrights-operator", "PrometheusRule modelrights-system/modelrights-operator", "ConfigMap modelrights-system/modelrights-dashboard", "Certificate modelrights-system/modelrights-serving-cert"},
		},
		"one replica needs no budget": {"operator.replicas=1", nil, []string{"PodDisruptionBudget modelrights-system/modelrights-operator"}},
		"no network policies":         {"networkPolicy.enabled=false", nil, []string{"NetworkPolicy modelrights-node/modelrights-node", "NetworkPolicy modelrights-system/modelrights-operator"}},
		"namespace of yours":          {"node.createNamespace=false", nil, []string{"Namespace /modelrights-node"}},
		"CRDs of yours":               {"crds.enabled=false", nil, []string{"CustomResourceDefinition /modellicenses.modelrights.dev"}},
		"Prometheus":                  {"serviceMonitor.enabled=true", []string{"ServiceMonitor modelrights-system/modelrights-operator"}, nil},
		"alerts":                      {"prometheusRule.enabled=true", []string{"PrometheusRule modelrights-system/modelrights-operator"}, nil},
		"dashboard":                   {"grafanaDashboard.enabled=true", []string{"ConfigMap modelrights-system/modelrights-dashboard"}, nil},
		"cert-manager": {
			"certManager.enabled=true",
			[]string{"Certificate modelrights-system/modelrights-serving-cert", "Issuer modelrights-system/modelrights-ca"}, nil,
		},
		"issuer of yours": {
			"certManager.enabled=true,certManager.issuerRef.name=corporate",
			[]string{"Certificate modelrights-system/modelrights-serving-cert"}, []string{"Issuer modelrights-system/modelrights-ca"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := render(t, "--set", test.set)
			for _, object := range test.there {
				if _, ok := all[object]; !ok {
					t.Errorf("%s is not rendered", object)
				}
			}
			for _, object := range test.absent {
				if _, ok := all[object]; ok {
					t.Errorf("%s is rendered", object)
				}
			}
		})
	}
}

// TestRegistryAuthorities: the ConfigMap is mounted where the operator looks for it, and nothing is where there is none.
func TestRegistryAuthorities(t *testing.T) {
	flag := "--registry-ca-file=/etc/modelrights/registries/ca.crt"
	for name, set := range map[string]string{"none": "", "corporate": "corporate-ca"} {
		t.Run(name, func(t *testing.T) {
			pod := as[appsv1.Deployment](t, render(t, "--set", "registries.caConfigMap="+set), "Deployment "+operatorNamespace+"/modelrights-operator").Spec.Template.Spec
			operator := pod.Containers[0]
			if got := slices.Contains(operator.Args, flag); got != (set != "") {
				t.Errorf("%s is given: %t", flag, got)
			}
			if set == "" {
				if len(pod.Volumes) > 0 {
					t.Errorf("volumes %v", pod.Volumes)
				}
				return
			}
			if len(pod.Volumes) != 1 || pod.Volumes[0].ConfigMap == nil || pod.Volumes[0].ConfigMap.Name != set {
				t.Errorf("volumes %v, want ConfigMap %s", pod.Volumes, set)
			}
			if len(operator.VolumeMounts) != 1 || operator.VolumeMounts[0].MountPath != "/etc/modelrights/registries" || !operator.VolumeMounts[0].ReadOnly {
				t.Errorf("mounts %v", operator.VolumeMounts)
			}
		})
	}
}
