package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// mutant is one guard, taken out.
type mutant struct {
	// Name is what docs/coverage.md calls the guard.
	Name string `json:"name"`
	// File is the file that is changed.
	File string `json:"file"`
	// Find is the text that stands there exactly once, Replace what takes its place.
	Find    string `json:"find"`
	Replace string `json:"replace"`
	// Package holds the test; default: that of the file.
	Package string `json:"package,omitempty"`
	// Run selects plain tests as go test -run does, Focus specs as Ginkgo's -ginkgo.focus does. One of them is required.
	Run   string `json:"run,omitempty"`
	Focus string `json:"focus,omitempty"`
}

func readList(path string) ([]mutant, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the list: %w", err)
	}
	var mutants []mutant
	if err := yaml.UnmarshalStrict(content, &mutants); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", path, err)
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if m.Name == "" || seen[m.Name] {
			return nil, fmt.Errorf("%s: a mutant has no name, or one that another has: %q", path, m.Name)
		}
		if (m.Run == "") == (m.Focus == "") {
			return nil, fmt.Errorf("%s: mutant %s needs exactly one of run and focus", path, m.Name)
		}
		seen[m.Name] = true
	}
	return mutants, nil
}

// apply returns the file's content without the guard.
func (m mutant) apply(content string) (string, error) {
	if n := strings.Count(content, m.Find); n != 1 {
		return "", fmt.Errorf("%s holds the text to be replaced %d times, not once", m.File, n)
	}
	return strings.Replace(content, m.Find, m.Replace, 1), nil
}
