// Package docs holds documents to the code.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMetricsAreDocumented holds docs/metrics.md to the metrics that the code declares: each has one row, with its type and
// its labels, and whatever else the page calls a metric of ours exists.
func TestMetricsAreDocumented(t *testing.T) {
	declared := map[string]metric{}
	for _, root := range []string{"../../cmd", "../../controllers", "../../internal", "../../webhooks"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				addMetrics(t, path, declared)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(declared) < 10 {
		t.Fatalf("found only %d metrics in the code", len(declared))
	}

	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]metric{}
	row := regexp.MustCompile("(?m)^\\| `(modelrights_\\w+)` \\| (\\w+) \\|(.*?)\\| [^|]+\\|$")
	for _, cells := range row.FindAllStringSubmatch(string(text), -1) {
		if _, twice := documented[cells[1]]; twice {
			t.Errorf("%s has two rows", cells[1])
		}
		documented[cells[1]] = metric{Type: cells[2], Labels: strings.ReplaceAll(strings.TrimSpace(cells[3]), "`", "")}
	}
	if diff := cmp.Diff(declared, documented); diff != "" {
		t.Errorf("metrics of the code (-) and of docs/metrics.md (+) differ:\n%s", diff)
	}
	for _, name := range regexp.MustCompile(`modelrights_\w+`).FindAllString(string(text), -1) {
		if _, exists := declared[name]; !exists {
			t.Errorf("docs/metrics.md speaks of %s, which the code does not declare", name)
		}
	}
}

// metric is what the page says of a metric beside its name.
type metric struct{ Type, Labels string }

// addMetrics adds the metrics that a file makes with the constructors of client_golang, by their full name.
func addMetrics(t *testing.T, path string, declared map[string]metric) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constructor := regexp.MustCompile(`^New(Counter|Gauge|Histogram|Summary)(Vec|Func)?$`)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !isPrometheus(selector) {
			return true
		}
		if selector.Sel.Name == "NewDesc" {
			addDescribed(t, path, call, declared)
			return true
		}
		kind := constructor.FindStringSubmatch(selector.Sel.Name)
		if kind == nil {
			return true
		}
		m := metric{Type: strings.ToLower(kind[1])}
		if kind[2] == "Vec" {
			m.Labels = strings.Join(texts(t, call.Args[1]), ", ")
		}
		declare(t, path, nameOf(t, path, call.Args[0]), m, declared)
		return true
	})
}

// addDescribed adds a metric of a collector of its own. By their names, those that only grow end in _total.
func addDescribed(t *testing.T, path string, call *ast.CallExpr, declared map[string]metric) {
	t.Helper()
	names := texts(t, call.Args[0])
	if len(names) != 1 {
		t.Fatalf("%s: the name of a metric is not one literal: it has the literals %v", path, names)
	}
	m := metric{Type: "gauge", Labels: strings.Join(texts(t, call.Args[2]), ", ")}
	if strings.HasSuffix(names[0], "_total") {
		m.Type = "counter"
	}
	declare(t, path, names[0], m, declared)
}

// declare takes notice of a metric. Two of one name would keep a process from starting that registers both.
func declare(t *testing.T, path, name string, m metric, declared map[string]metric) {
	t.Helper()
	if _, twice := declared[name]; twice {
		t.Errorf("%s: %s is declared twice", path, name)
	}
	declared[name] = m
}

func isPrometheus(selector *ast.SelectorExpr) bool {
	ident, ok := selector.X.(*ast.Ident)
	return ok && ident.Name == "prometheus"
}

// nameOf is the field Name of a metric's options. Names are written whole, so that they are found by searching for them.
func nameOf(t *testing.T, path string, options ast.Expr) string {
	t.Helper()
	literal, ok := options.(*ast.CompositeLit)
	if !ok {
		t.Fatalf("%s: a metric's options are not a literal", path)
	}
	fields := map[string]ast.Expr{}
	for _, element := range literal.Elts {
		if field, ok := element.(*ast.KeyValueExpr); ok {
			fields[field.Key.(*ast.Ident).Name] = field.Value
		}
	}
	names := texts(t, fields["Name"])
	if len(names) != 1 || fields["Namespace"] != nil || fields["Subsystem"] != nil {
		t.Fatalf("%s: the name of a metric is not one literal: it has the literals %v", path, names)
	}
	return names[0]
}

// texts are the string literals in an expression, in order.
func texts(t *testing.T, expr ast.Expr) []string {
	t.Helper()
	var found []string
	if expr == nil {
		return nil
	}
	ast.Inspect(expr, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, text)
		}
		return true
	})
	return found
}
