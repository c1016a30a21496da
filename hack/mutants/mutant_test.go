package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// TestListNamesTests: a mutant whose tests are renamed would be WRONG only when somebody runs it, which takes hours for all.
func TestListNamesTests(t *testing.T) {
	mutants, err := readList("mutants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, m := range mutants {
		dir := filepath.Join("../..", m.packagePath())
		if _, read := sources[dir]; !read {
			sources[dir] = testsOf(t, dir)
		}
		if m.Run != "" {
			run, err := regexp.Compile(strings.SplitN(m.Run, "/", 2)[0])
			if err != nil {
				t.Errorf("mutant %s: %v", m.Name, err)
				continue
			}
			tests := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`).FindAllStringSubmatch(sources[dir], -1)
			if !slices.ContainsFunc(tests, func(test []string) bool { return run.MatchString(test[1]) }) {
				t.Errorf("mutant %s: no test of %s is called %s", m.Name, dir, m.Run)
			}
			continue
		}
		// What a focus matches may be put together from several containers, so only words can be looked for.
		for focus := range strings.SplitSeq(m.Focus, "|") {
			for word := range strings.FieldsSeq(focus) {
				if !strings.Contains(sources[dir], strings.Trim(word, ".*^$()")) {
					t.Errorf("mutant %s: no spec of %s speaks of %q: %s", m.Name, dir, word, m.Focus)
				}
			}
		}
	}
}

// testsOf is the text of the tests of a package, or of those below it where it ends in "...".
func testsOf(t *testing.T, dir string) string {
	t.Helper()
	root, below := strings.CutSuffix(dir, "/...")
	var text strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && !below:
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		text.Write(content)
		return err
	})
	if err != nil || text.Len() == 0 {
		t.Errorf("%s has no tests: %v", dir, err)
	}
	return text.String()
}

func TestRan(t *testing.T) {
	specs, tests := []string{"./p", runSpecs, "text"}, []string{"./p", "-run", "Test"}
	for name, tc := range map[string]struct {
		out       string
		selection []string
		want      bool
	}{
		"a test":                   {"--- PASS: TestA (0.00s)\nok", tests, true},
		"a test of tests":          {"    --- FAIL: TestA/b (0.00s)", tests, true},
		"no test":                  {"ok  p 0.1s [no tests to run]", tests, false},
		"a test that was skipped":  {"--- SKIP: TestA (0.00s)", tests, false},
		"a spec":                   {"Ran 1 of 400 Specs in 3 seconds\n--- FAIL: TestIntegration (3.0s)", specs, true},
		"no spec":                  {"Ran 0 of 400 Specs in 3 seconds\n--- PASS: TestIntegration (3.0s)", specs, false},
		"the suite does not start": {"[BeforeSuite] [FAILED]\nRan 0 of 400 Specs in 60 seconds\n--- FAIL: TestIntegration (60.0s)\nFAIL", specs, false},
		"there is no API server":   {"suite_test.go:31: KUBEBUILDER_ASSETS is not set\n--- FAIL: TestIntegration (0.0s)", specs, false},
	} {
		if got := ran(tc.out, tc.selection); got != tc.want {
			t.Errorf("%s: ran: %t, want %t", name, got, tc.want)
		}
	}
}
