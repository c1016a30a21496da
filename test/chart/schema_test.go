package chart

import (
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	out, err := run(tool(t, "HELM", "helm"), "lint", "--strict", chartPath)
	if err != nil {
		t.Fatalf("helm lint: %v", err)
	}
	if strings.Contains(string(out), "[WARNING]") {
		t.Errorf("helm lint warns: %s", out)
	}
}

// TestWrongValues gives wrong values to `helm template` and, where the schema knows better, to `helm lint`. They must be
// refused with a message that says where the mistake is.
func TestWrongValues(t *testing.T) {
	for name, test := range map[string]struct {
		set  string
		want string
	}{
		"unknown value":                {"replicas=2", "additional properties 'replicas' not allowed"},
		"unknown nested value":         {"operator.replica=2", "at '/operator': additional properties 'replica' not allowed"},
		"no replica":                   {"operator.replicas=0", "at '/operator/replicas': minimum"},
		"too many replicas":            {"operator.replicas=10", "at '/operator/replicas': maximum"},
		"replicas in words":            {"operator.replicas=two", "at '/operator/replicas': got string, want integer"},
		"unknown log level":            {"operator.logLevel=loud", "at '/operator/logLevel': value must be one of 'debug', 'info', 'error'"},
		"unknown node log level":       {"node.logLevel=error", "at '/node/logLevel': value must be one of 'debug', 'info'"},
		"unknown pull policy":          {"image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"},
		"tag with a colon":             {"image.tag=a:b", "at '/image/tag'"},
		"digest that is none":          {"operator.image.digest=sha256:12", "at '/operator/image/digest'"},
		"registry with a scheme":       {"image.registry=https://registry.example.com", "at '/image/registry'"},
		"repository with a tag":        {"operator.image.repository=operator:v1", "at '/operator/image/repository'"},
		"governed repository, tagged":  {"governedRepositories={registry.example.com/models:v1}", "at '/governedRepositories/0'"},
		"governed repository, digest":  {"governedRepositories={registry.example.com/models@sha256:12}", "at '/governedRepositories/0'"},
		"governed repository, no host": {"governedRepositories={models/chat}", "at '/governedRepositories/0'"},
		"governed repository, host *":  {"governedRepositories={*/chat}", "at '/governedRepositories/0'"},
		"governed repository, **":      {"governedRepositories={a.example/**/b/**/**}", "at '/governedRepositories/0'"},
		"governed repository, twice":   {"governedRepositories={a.example/b,a.example/b}", "at '/governedRepositories': items at 0 and 1 are equal"},
		"governed repositories, text":  {"governedRepositories=a.example/b", "at '/governedRepositories': got string, want array"},
		"exempt namespace":             {"exemptNamespaces={Kube}", "at '/exemptNamespaces/0'"},
		"node namespace":               {"node.namespace=Node", "at '/node/namespace'"},
		"node in operator's namespace": {"node.namespace=" + operatorNamespace, "the node driver is privileged and the operator is not"},
		"relative kubelet directory":   {"node.kubeletDir=var/lib/kubelet", "at '/node/kubeletDir'"},
		"kubelet directory with slash": {"node.kubeletDir=/var/lib/kubelet/", "at '/node/kubeletDir'"},
		"no node may be updated":       {"node.maxUnavailable=0", "at '/node/maxUnavailable'"},
		"memory without sense":         {"operator.resources.limits.memory=lots", "at '/operator/resources/limits/memory'"},
		"toleration effect":            {"node.tolerations[0].effect=Never", "at '/node/tolerations/0/effect': value must be one of"},
		"cert-manager in words":        {"certManager.enabled=maybe", "at '/certManager/enabled': got string, want boolean"},
		"issuer without a name":        {"certManager.issuerRef.kind=Issuer", "at '/certManager/issuerRef'"},
		"interval without unit":        {"serviceMonitor.interval=30", "at '/serviceMonitor/interval'"},
		"metrics from a word":          {"networkPolicy.metricsFrom={monitoring}", "at '/networkPolicy/metricsFrom/0': got string, want object"},
		"registries asked too often":   {"registries.resolveInterval=5s", "at '/registries/resolveInterval'"},
		"interval of registries":       {"registries.resolveInterval=10", "at '/registries/resolveInterval'"},
		"authorities of registries":    {"registries.caConfigMap=Corp CA", "at '/registries/caConfigMap'"},
		"crds switch":                  {"crds.keep=yes-please", "at '/crds/keep': got string, want boolean"},
		"aggregation switch":           {"rbac.aggregate=1", "at '/rbac/aggregate': got number, want boolean"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := template(t, "--set", test.set)
			if err == nil {
				t.Fatalf("helm template accepts %s", test.set)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("helm template refuses %s with\n%v\nwant %q in it", test.set, err, test.want)
			}
			if !strings.Contains(err.Error(), "the schema(s)") {
				return // A check of the templates, with a sentence that no schema can say. helm lint runs none.
			}
			lint := []string{"lint", chartPath, "--namespace", operatorNamespace, "--set", test.set}
			if _, err := run(tool(t, "HELM", "helm"), lint...); err == nil {
				t.Errorf("helm lint accepts %s", test.set)
			}
		})
	}
}

func TestGoodValues(t *testing.T) {
	for name, set := range map[string]string{
		"port and wildcards":    "governedRepositories={registry.example.com:5000/models/**,127.0.0.1:17500/m,localhost/a/*,[fd00::1]:5000/m}",
		"digest":                "operator.image.digest=sha256:" + strings.Repeat("a", 64),
		"one replica":           "operator.replicas=1",
		"issuer of yours":       "certManager.enabled=true,certManager.issuerRef.name=corporate,certManager.issuerRef.kind=ClusterIssuer",
		"Prometheus":            "serviceMonitor.enabled=true,serviceMonitor.interval=1m30s",
		"percentage":            "node.maxUnavailable=25%,operator.podDisruptionBudget.maxUnavailable=50%",
		"dependency of a chart": "global.imageRegistry=registry.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := template(t, "--set", set); err != nil {
				t.Errorf("helm template refuses %s: %v", set, err)
			}
		})
	}
}
