package v1alpha1

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
)

// TestReasonsAreDocumented holds docs/reasons.md to the constants of type Reason: each has a section that says what it means
// and what to do, and no section is of none.
func TestReasonsAreDocumented(t *testing.T) {
	declared := map[string]string{}
	for _, root := range []string{"../../api", "../../controllers", "../../internal", "../../webhooks"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				addReasons(t, path, declared)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(declared) < 30 {
		t.Fatalf("found only %d constants of type Reason", len(declared))
	}

	text, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n### ")
	documented := map[string]bool{}
	form := regexp.MustCompile(`(?s)^\w+\n\n\*\*Meaning:\*\* .+\n\*\*Remedy:\*\* .+`)
	for _, section := range sections[1:] {
		code, _, _ := strings.Cut(section, "\n")
		if documented[code] {
			t.Errorf("%s has two sections", code)
		}
		documented[code] = true
		if declared[code] == "" {
			t.Errorf("section %s is of no constant", code)
		}
		if !form.MatchString(section) {
			t.Errorf("section %s has no meaning or no remedy", code)
		}
	}
	for code, where := range declared {
		if !documented[code] {
			t.Errorf("reason %s (%s) has no section in docs/reasons.md", code, where)
		}
	}
}

// addReasons adds the values of a file's constants of type Reason, and where each is declared.
func addReasons(t *testing.T, path string, declared map[string]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil || !isReason(spec.Type) {
			return true
		}
		for _, value := range spec.Values {
			if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				code, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				declared[code] = path
			}
		}
		return true
	})
}

func isReason(expr ast.Expr) bool {
	switch e := expr.(type) {
	case *ast.Ident:
		return e.Name == "Reason"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Reason"
	}
	return false
}
