package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var proof = regexp.MustCompile("`([^`]+_test\\.go)`: ([^;|]+)")

// TestCoverageNamesTests holds docs/coverage.md against the tests and guards that it names, and the guards against it.
func TestCoverageNamesTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	guards := mutantNames(t)
	named := map[string]bool{}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasSuffix(strings.TrimSpace(line), "| guard |") {
			continue
		}
		rows++
		if len(cells) != 4 {
			t.Errorf("a row has %d cells, want place, what happens, proved by, guard: %s", len(cells), line)
			continue
		}
		checkProofs(t, cells[2])
		for _, guard := range strings.Split(cells[3], ",") {
			name := strings.Trim(strings.TrimSpace(guard), "`")
			named[name] = true
			if !slices.Contains(guards, name) {
				t.Errorf("guard %q is not in hack/mutants/mutants.yaml: %s", name, line)
			}
		}
	}
	if rows == 0 {
		t.Error("docs/coverage.md has no rows")
	}
	for _, name := range guards {
		if !named[name] {
			t.Errorf("docs/coverage.md does not speak of guard %s", name)
		}
	}
}

// checkProofs: each of the tests that a cell names, as `FILE`: NAME, is there.
func checkProofs(t *testing.T, cell string) {
	t.Helper()
	proofs := proof.FindAllStringSubmatch(cell, -1)
	if len(proofs) == 0 {
		t.Errorf("no test is named as `FILE`: NAME in %q", cell)
	}
	for _, p := range proofs {
		content, err := os.ReadFile(filepath.Join("../..", p[1]))
		if err != nil {
			t.Errorf("docs/coverage.md names a file that is not there: %v", err)
			continue
		}
		if name := strings.TrimSpace(p[2]); !strings.Contains(string(content), name) {
			t.Errorf("%s has no test %q", p[1], name)
		}
	}
}

func mutantNames(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("../../hack/mutants/mutants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var mutants []struct {
		Name string `json:"name"`
	}
	if err := yaml.Unmarshal(content, &mutants); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mutants {
		names = append(names, m.Name)
	}
	return names
}
