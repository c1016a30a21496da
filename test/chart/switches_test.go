package chart

import (
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
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

// TestWebhooks holds what an outage or an upgrade depends on.
func TestWebhooks(t *testing.T) {
	all := render(t, "--set", "exemptNamespaces={monitoring}")
	mutating := as[admissionregistrationv1.MutatingWebhookConfiguration](t, all, "MutatingWebhookConfiguration /modelrights-pods").Webhooks[0]
	validating := as[admissionregistrationv1.ValidatingWebhookConfiguration](t, all, "ValidatingWebhookConfiguration /modelrights-pods").Webhooks[0]
	exempt := []string{"kube-system", operatorNamespace, nodeNamespace, "monitoring"}

	for name, webhook := range map[string]struct {
		policy *admissionregistrationv1.FailurePolicyType
		client admissionregistrationv1.WebhookClientConfig
		spaces []string
	}{
		"mutating":   {mutating.FailurePolicy, mutating.ClientConfig, mutating.NamespaceSelector.MatchExpressions[0].Values},
		"validating": {validating.FailurePolicy, validating.ClientConfig, validating.NamespaceSelector.MatchExpressions[0].Values},
	} {
		if *webhook.policy != admissionregistrationv1.Fail {
			t.Errorf("%s: failurePolicy is %s: a stopped operator would let every pod through", name, *webhook.policy)
		}
		if webhook.client.CABundle != nil {
			t.Errorf("%s: has a caBundle, which would overwrite the operator's on every upgrade", name)
		}
		if !slices.Equal(webhook.spaces, exempt) {
			t.Errorf("%s: exempts %v, want %v", name, webhook.spaces, exempt)
		}
		if webhook.client.Service.Path != nil {
			t.Errorf("%s: has the path %s, which everybody knows then, and which would overwrite the operator's", name, *webhook.client.Service.Path)
		}
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
		"self-managed certificates": {nil, []string{"--cert-management=self"}},
		"cert-manager":              {[]string{"--set", "certManager.enabled=true"}, []string{"--cert-management=external"}},
		"node namespace":            {[]string{"--set", "node.namespace=elsewhere"}, []string{"--node-namespace=elsewhere"}},
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
			[]string{"ServiceMonitor modelrights-system/modelrights-operator", "Certificate modelrights-system/modelrights-serving-cert"},
		},
		"one replica needs no budget": {"operator.replicas=1", nil, []string{"PodDisruptionBudget modelrights-system/modelrights-operator"}},
		"no network policies":         {"networkPolicy.enabled=false", nil, []string{"NetworkPolicy modelrights-node/modelrights-node", "NetworkPolicy modelrights-system/modelrights-operator"}},
		"namespace of yours":          {"node.createNamespace=false", nil, []string{"Namespace /modelrights-node"}},
		"CRDs of yours":               {"crds.enabled=false", nil, []string{"CustomResourceDefinition /modellicenses.modelrights.dev"}},
		"Prometheus":                  {"serviceMonitor.enabled=true", []string{"ServiceMonitor modelrights-system/modelrights-operator"}, nil},
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
