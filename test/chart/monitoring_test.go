package chart

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestAlerts: the PrometheusRule holds the file's groups whole, templates of Prometheus included. What is in the file is
// tried in test/alerts.
func TestAlerts(t *testing.T) {
	rule := render(t, "--set", "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus")["PrometheusRule "+operatorNamespace+"/modelrights-operator"]
	if rule == nil || rule.GetLabels()["release"] != "prometheus" {
		t.Fatalf("rendered %v", rule)
	}
	content, err := os.ReadFile(chartPath + "/files/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{}
	if err := yaml.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	got, _, _ := unstructured.NestedMap(rule.Object, "spec")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file (-) and the PrometheusRule (+) differ:\n%s", diff)
	}
}

// TestDashboard: the ConfigMap holds the file, where Grafana's sidecar looks for it.
func TestDashboard(t *testing.T) {
	all := render(t, "--set", "grafanaDashboard.enabled=true,grafanaDashboard.annotations.grafana_folder=Models")
	dashboard := as[corev1.ConfigMap](t, all, "ConfigMap "+operatorNamespace+"/modelrights-dashboard")
	if dashboard.Labels["grafana_dashboard"] != "1" || dashboard.Annotations["grafana_folder"] != "Models" {
		t.Errorf("labels %v, annotations %v", dashboard.Labels, dashboard.Annotations)
	}
	content, err := os.ReadFile(chartPath + "/files/grafana/modelrights.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(dashboard.Data["modelrights.json"]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file (-) and the ConfigMap (+) differ:\n%s", diff)
	}
}
