package alerts

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// documented are the metrics of docs/metrics.md, which a test holds to the code, and whether each is a histogram, with its
// labels.
func documented(t *testing.T) map[string]struct{ kind, labels string } {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]struct{ kind, labels string }{}
	for _, cells := range regexp.MustCompile("(?m)^\\| `(modelrights_\\w+)` \\| (\\w+) \\|(.*?)\\|").FindAllStringSubmatch(string(page), -1) {
		all[cells[1]] = struct{ kind, labels string }{cells[2], cells[3]}
	}
	if len(all) < 20 {
		t.Fatalf("docs/metrics.md lists only %d metrics", len(all))
	}
	return all
}

func holdToMetrics(t *testing.T, where, expr string) {
	t.Helper()
	names, err := selectors(expr)
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
		return
	}
	if len(names) == 0 {
		t.Errorf("%s: %s reads no metric", where, expr)
	}
	known := documented(t)
	for _, name := range names {
		base := name
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if m, ok := known[strings.TrimSuffix(name, suffix)]; ok && strings.HasSuffix(name, suffix) && m.kind == "histogram" {
				base = strings.TrimSuffix(name, suffix)
			}
		}
		m, ok := known[base]
		if !ok || (m.kind == "histogram") != (base != name) {
			t.Errorf("%s reads %s, which docs/metrics.md does not list", where, name)
		}
		if m.kind == "counter" && !regexp.MustCompile(`(rate|increase|absent)\(`+name).MatchString(expr) {
			t.Errorf("%s reads the counter %s as it is: it begins anew with each replica", where, name)
		}
		for _, by := range regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(by[1], ",") {
				if label = strings.TrimSpace(label); label != "le" && !strings.Contains(m.labels, "`"+label+"`") {
					t.Errorf("%s: %s has no label %s", where, name, label)
				}
			}
		}
	}
}

// TestRules: Prometheus takes the alerts, each reads metrics that there are, and says what is the matter and how grave.
func TestRules(t *testing.T) {
	all, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range all {
		holdToMetrics(t, name, r.Expr)
		if severity := r.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s: severity %q", name, severity)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s does not say what is the matter", name)
		}
	}
}

// TestDashboard: every expression is PromQL, and reads metrics that there are.
func TestDashboard(t *testing.T) {
	all, err := queries()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Errorf("the dashboard asks only %d things", len(all))
	}
	for _, q := range all {
		holdToMetrics(t, q.panel, q.expr)
	}
}
