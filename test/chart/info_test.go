package chart

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestInfoIsWhatTheOperatorIsTold: what kubectl modelrights tells users is what the operator goes by.
func TestInfoIsWhatTheOperatorIsTold(t *testing.T) {
	all := render(t, "--set", "governedRepositories={registry.example.com/models/**,ghcr.io/acme/*}", "--set", "exemptNamespaces={monitoring}")
	info := as[corev1.ConfigMap](t, all, "ConfigMap "+publicInfo).Data
	for key, want := range map[string]string{
		"governedRepositories": "registry.example.com/models/**\nghcr.io/acme/*",
		"exemptNamespaces":     strings.Join([]string{"kube-system", operatorNamespace, nodeNamespace, "monitoring"}, "\n"),
		"operatorNamespace":    operatorNamespace,
	} {
		if info[key] != want {
			t.Errorf("%s is %q, want %q", key, info[key], want)
		}
	}
	if info["version"] == "" {
		t.Error("there is no version")
	}
}
