package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// testTimeout ends a test that a mutant has made wait for ever.
const testTimeout = 5 * time.Minute

// runner runs the tests of mutants in a checkout.
type runner struct {
	dir string
	// clean holds, for each selection of tests, whether it passes on the code as it is.
	clean map[string]error
}

// run returns nil where the tests pass on the code as it is and fail without the guard.
func (r *runner) run(ctx context.Context, m mutant) error {
	selection := m.selection()
	key := strings.Join(selection, " ")
	if _, known := r.clean[key]; !known {
		r.clean[key] = r.passes(ctx, "", selection)
	}
	if err := r.clean[key]; err != nil {
		return fmt.Errorf("the tests do not pass on the code as it is: %w", err)
	}
	overlay, err := r.overlay(m)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(overlay)) }()
	if out, err := r.goCommand(ctx, "test", "-overlay", overlay, "-run", "^$", m.packagePath()); err != nil {
		return fmt.Errorf("the mutant does not compile: %s", lastLines(out))
	}
	switch err := r.passes(ctx, overlay, selection); {
	case err == nil:
		return errors.New("the tests pass without the guard")
	case !errors.Is(err, errRed):
		return err
	}
	return nil
}

func (m mutant) packagePath() string {
	if m.Package != "" {
		return m.Package
	}
	return "./" + filepath.Dir(m.File)
}

func (m mutant) selection() []string {
	if m.Run != "" {
		return []string{m.packagePath(), "-run", m.Run}
	}
	return []string{m.packagePath(), runSpecs, m.Focus}
}

// runSpecs selects specs as -run does tests.
const runSpecs = "-ginkgo.focus"

// overlay writes the changed file, and says to the go command where it is.
func (r *runner) overlay(m mutant) (string, error) {
	path, err := filepath.Abs(filepath.Join(r.dir, m.File))
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", m.File, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the file of the guard: %w", err)
	}
	changed, err := m.apply(string(content))
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", fmt.Errorf("making room for the mutant: %w", err)
	}
	mutated, overlay := filepath.Join(dir, filepath.Base(path)), filepath.Join(dir, "overlay.json")
	mapping, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err == nil {
		err = errors.Join(os.WriteFile(mutated, []byte(changed), 0o600), os.WriteFile(overlay, mapping, 0o600))
	}
	if err != nil {
		return "", fmt.Errorf("writing the mutant: %w", err)
	}
	return overlay, nil
}

// errRed says that tests ran, and failed.
var errRed = errors.New("tests failed")

var (
	failed   = regexp.MustCompile(`(?m)^\s*--- FAIL|\[FAIL\]|^FAIL`)
	ranTests = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL)`)
	ranSpecs = regexp.MustCompile(`Ran [1-9][0-9]* of`)
)

// ran says whether any of the selected tests ran. With Ginkgo that one Go test ran says nothing: it runs all specs, and
// where the API server does not start, it fails without any.
func ran(out string, selection []string) bool {
	if selection[1] == runSpecs {
		return ranSpecs.MatchString(out)
	}
	return ranTests.MatchString(out)
}

// passes returns nil where at least one test ran and all passed, errRed where one failed, and another error where none ran.
func (r *runner) passes(ctx context.Context, overlay string, selection []string) error {
	args := []string{"test", "-count=1", "-v", "-timeout", testTimeout.String()}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(args, selection[0])
	out, err := r.goCommand(ctx, append(args, selection[1:]...)...)
	switch {
	case !ran(out, selection):
		return fmt.Errorf("no test ran: %s", lastLines(out))
	case err == nil:
		return nil
	case failed.MatchString(out):
		return fmt.Errorf("%w: %s", errRed, lastLines(out))
	}
	return fmt.Errorf("running tests: %w: %s", err, lastLines(out))
}

func (r *runner) goCommand(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = r.dir
	out, err := command.CombinedOutput()
	return string(out), err
}

func lastLines(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
