package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nothingThere is a kubectl that finds none of the objects that the demo asks for, and does the rest.
const nothingThere = `case "$*" in *"{.metadata.name}"*) exit 1;; esac`

// On a cluster that somebody uses, the demo touches nothing that it did not make.
func TestNothingOfOthersIsTouched(t *testing.T) {
	for name, c := range map[string]struct{ helm, kubectl, said string }{
		"modelrights is installed already": {`[ "$1" != list ]`, nothingThere, "modelrights is installed on this cluster"},
		"a namespace has the demo's name": {
			"exit 1", `case "$*" in *"{.metadata.name}"*namespace*) echo "demo-ml-prod ";; *"{.metadata.name}"*) exit 1;; esac`, "there is a namespace demo-ml-prod",
		},
		"a Secret has the name of the demo's key": {
			"exit 1", `case "$*" in *"{.metadata.name}"*secret*) echo "demo-chat-7b-key ";; *"{.metadata.name}"*) exit 1;; esac`, "there is a secret demo-chat-7b-key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls := filepath.Join(t.TempDir(), "calls")
			record := "echo $0 $* >> " + calls + "\n"
			var out bytes.Buffer
			opts := options{registry: "registry.invalid", tag: "dev", out: t.TempDir(), existing: true, kubectl: script(t, record+c.kubectl), helm: script(t, record+c.helm)}
			if got := run(t.Context(), opts, &out); got != len(steps) || !strings.Contains(out.String(), c.said) {
				t.Errorf("%d failed, want all, since %q:\n%s", got, c.said, out.String())
			}
			made, err := os.ReadFile(calls)
			if err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{" delete ", " apply ", " create ", " upgrade ", " uninstall ", " label "} {
				if strings.Contains(string(made), verb) {
					t.Errorf("the demo changed something:\n%s", made)
				}
			}
		})
	}
}

func TestFailuresAreCountedAndHelpIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		helm, kubectl  string
		passed, failed int
		shown          []string
	}{
		"the chart cannot be installed": {"exit 1", nothingThere, 0, len(steps), []string{"steps that follow cannot be shown", "logs deployment/modelrights-operator", "/x/cluster-logs"}},
		// Without a repository around, the model cannot be sealed.
		"the model cannot be sealed": {`[ "$1" != list ] || echo modelrights`, nothingThere, 1, len(steps) - 1, []string{"=== 2.", "FAIL"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			opts := options{
				registry: "registry.invalid", tag: "dev", out: t.TempDir(), logs: "/x/cluster/logs", keep: true,
				kubectl: script(t, c.kubectl), helm: script(t, c.helm),
			}
			if got := run(t.Context(), opts, &out); got != c.failed {
				t.Errorf("%d failed, want %d:\n%s", got, c.failed, out.String())
			}
			if want := fmt.Sprintf("\ndemo: %d passed, %d failed\n", c.passed, c.failed); !strings.HasSuffix(out.String(), want) {
				t.Errorf("the end is %q, want %q", out.String()[max(0, out.Len()-60):], want)
			}
			for _, words := range c.shown {
				if !strings.Contains(out.String(), words) {
					t.Errorf("%q is missing in:\n%s", words, out.String())
				}
			}
		})
	}
}

func TestRefusedIsFussy(t *testing.T) {
	failed := fmt.Errorf("exit status 1")
	for name, c := range map[string]struct {
		result result
		good   bool
	}{
		"refused for the reason":    {result{text: "denied [NoGrant]: acme", err: failed}, true},
		"refused for another":       {result{text: "connection refused", err: failed}, false},
		"accepted":                  {result{text: "created NoGrant acme"}, false},
		"refused, but half is said": {result{text: "NoGrant", err: failed}, false},
	} {
		if err := c.result.refused("NoGrant", "acme"); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShownCanBeTyped(t *testing.T) {
	for want, args := range map[string][]string{
		"kubectl get mlic":       {"_output/bin/kubectl", "get", "mlic"},
		"a 'b c' '' '{x}'":       {"a", "b c", "", "{x}"},
		`a 'it'\''s'`:            {"a", "it's"},
		"helm --set 'x={a/**}'":  {"helm", "--set", "x={a/**}"},
		"kubectl get --raw /a/b": {"kubectl", "get", "--raw", "/a/b"},
	} {
		if got := shown(args); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOptionsSayWhatIsMissing(t *testing.T) {
	program := script(t, "exit 0")
	for variable, opts := range map[string]options{
		"KUBECONFIG":    {registry: "x", kubectl: program, helm: program},
		"REGISTRY":      {kubectl: program, helm: program},
		"make demo":     {registry: "x", kubectl: "/nonexistent", helm: program},
		"/nonexistent2": {registry: "x", kubectl: program, helm: "/nonexistent2"},
	} {
		t.Setenv("KUBECONFIG", map[bool]string{true: "", false: "x"}[variable == "KUBECONFIG"])
		if err := opts.check(); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s: got %v", variable, err)
		}
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}
