package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListFits holds the list against the code, so that a guard which is rewritten is not lost from it.
func TestListFits(t *testing.T) {
	mutants, err := readList("mutants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		content, err := os.ReadFile(filepath.Join("../..", m.File))
		if err != nil {
			t.Errorf("mutant %s: %v", m.Name, err)
			continue
		}
		changed, err := m.apply(string(content))
		if err != nil {
			t.Errorf("mutant %s: %v", m.Name, err)
		} else if changed == string(content) {
			t.Errorf("mutant %s changes nothing", m.Name)
		}
	}
}

func TestRunner(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.com/guarded\n\ngo 1.26\n")
	write("guard.go", "package guarded\n\nfunc Allowed(n int) bool {\n\tif n > 3 {\n\t\treturn false\n\t}\n\treturn true\n}\n")
	write("guard_test.go", "package guarded\n\nimport \"testing\"\n\nfunc TestAllowed(t *testing.T) {\n\tif Allowed(4) {\n\t\tt.Error(\"4 is allowed\")\n\t}\n}\n\nfunc TestNothing(t *testing.T) {}\n")
	guard := mutant{Name: "guard", File: "guard.go", Package: ".", Find: "n > 3", Replace: "false", Run: "TestAllowed"}
	tests := map[string]struct {
		change func(*mutant)
		want   string
	}{
		"a guard that a test proves": {func(*mutant) {}, ""},
		"a test that proves nothing": {func(m *mutant) { m.Run = "TestNothing" }, "pass without the guard"},
		"no such test":               {func(m *mutant) { m.Run = "TestOther" }, "no test ran"},
		"a guard that is gone":       {func(m *mutant) { m.Find = "n > 4" }, "0 times"},
		"a mutant that is no Go":     {func(m *mutant) { m.Replace = "n >" }, "does not compile"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := guard
			test.change(&m)
			err := (&runner{dir: dir, clean: map[string]error{}}).run(t.Context(), m)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
	after, err := os.ReadFile(filepath.Join(dir, "guard.go"))
	if err != nil || !strings.Contains(string(after), "n > 3") {
		t.Errorf("the code itself was changed: %s, %v", after, err)
	}
}
