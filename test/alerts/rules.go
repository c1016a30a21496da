// Package alerts holds the alerts and the dashboard of the chart to what Prometheus understands, to the metrics that there
// are, and alerts to when they are to fire. It is a module of its own, since Prometheus requires more than the project.
package alerts

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile     = "../../charts/modelrights/files/prometheus/alerts.yaml"
	dashboardFile = "../../charts/modelrights/files/grafana/modelrights.json"
	metricsPage   = "../../docs/metrics.md"
)

// rules reads the alerts by name, as Prometheus does. The error says what it would not take.
func rules() (map[string]rulefmt.Rule, error) {
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return nil, fmt.Errorf("%v", errs)
	}
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" {
				return nil, fmt.Errorf("alert %q is there twice, or no alert", r.Alert)
			}
			all[r.Alert] = r
		}
	}
	return all, nil
}

// query is an expression of the dashboard.
type query struct{ panel, expr string }

// queries reads the dashboard's expressions, with what Grafana puts in for its variables.
func queries() ([]query, error) {
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		return nil, err
	}
	var all []query
	ids := map[int]bool{}
	grafana := strings.NewReplacer("$__rate_interval", "5m", "$license", ".*")
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			return nil, fmt.Errorf("panel %d %q: its id is another's, or it has no title or nothing to show", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			all = append(all, query{p.Title, grafana.Replace(target.Expr)})
		}
	}
	return all, nil
}

// selectors are the metrics that an expression reads.
func selectors(expr string) ([]string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, matchers := range parser.ExtractSelectors(parsed) {
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel {
				names = append(names, m.Value)
			}
		}
	}
	return names, nil
}

// holdsFor is a rule's for.
func holdsFor(r rulefmt.Rule) time.Duration { return time.Duration(r.For) }
