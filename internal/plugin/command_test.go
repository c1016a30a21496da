package plugin

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/test/builders"
)

// eachCommand calls f with every command that is ours.
func eachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		if c.Name() != "completion" && c.Name() != "help" {
			eachCommand(c, f)
		}
	}
}

// TestHelp: every command says what it is for, shows how it is called, and describes every flag.
func TestHelp(t *testing.T) {
	root := NewCommand(genericiooptions.NewTestIOStreamsDiscard())
	eachCommand(root, func(cmd *cobra.Command) {
		t.Run(cmd.Name(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("short description %q", cmd.Short)
			}
			if cmd != root {
				for line := range strings.SplitSeq(cmd.Example, "\n") {
					if line != "" && !strings.HasPrefix(line, "  ") {
						t.Errorf("example %q is not indented", line)
					}
				}
				if !strings.Contains(cmd.Example, displayName+" "+cmd.Name()) {
					t.Error("there is no example")
				}
			}
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags.AddFlagSet(cmd.LocalNonPersistentFlags())
			flags.AddFlagSet(cmd.PersistentFlags())
			flags.VisitAll(func(flag *pflag.Flag) {
				if len(flag.Usage) < len("CA file") {
					t.Errorf("--%s has no description", flag.Name)
				}
			})
			var help bytes.Buffer
			cmd.SetOut(&help)
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(help.String(), "kubectl-modelrights") {
				t.Errorf("users call it %s:\n%s", displayName, help.String())
			}
		})
	})
}

// TestKubeconfigFlags: what kubectl takes to find a cluster, every command takes.
func TestKubeconfigFlags(t *testing.T) {
	status, out, _ := runPlugin(t, "", "options")
	if status != StatusOK {
		t.Errorf("exit status %d", status)
	}
	for _, flag := range []string{"--kubeconfig", "--context", "--cluster", "--user", "--namespace", "--server", "--as", "--as-group", "--token", "--request-timeout", "--insecure-skip-tls-verify"} {
		if !strings.Contains(out, flag+" ") {
			t.Errorf("%s is not among the options", flag)
		}
	}
}

func TestVersionOfTheClient(t *testing.T) {
	if status, out, errOut := runPlugin(t, "", "version", "--client"); status != StatusOK || out != "Client Version: dev\n" {
		t.Errorf("exit status %d, prints %q, says %q", status, out, errOut)
	}
	if _, out, _ := runPlugin(t, "", "version", "--client", "-o", "yaml"); !strings.Contains(out, "kind: VersionInfo") {
		t.Errorf("prints %q", out)
	}
}

// TestCompletion: flags and types are completed, also under the name by which kubectl asks.
func TestCompletion(t *testing.T) {
	t.Setenv("KUBECONFIG", "testdata/kubeconfig.yaml")
	for name, test := range map[string]struct {
		line []string
		want []string
	}{
		"commands":   {[]string{""}, []string{"completion", "explain", "images", "options", "version"}},
		"types":      {[]string{"explain", "de"}, []string{"deployment/"}},
		"formats":    {[]string{"images", "-o", ""}, newOutputFlags(formatWide, formatName).allowed()},
		"confidence": {[]string{"images", "--confidence", ""}, confidences},
		"fail-on":    {[]string{"explain", "--fail-on", ""}, []string{"unresolved"}},
		"contexts":   {[]string{"explain", "--context", ""}, []string{"other", "test"}},
		"clusters":   {[]string{"version", "--cluster", ""}, []string{"test-cluster"}},
		"users":      {[]string{"version", "--user", ""}, []string{"bob"}},
		"no cluster": {[]string{"explain", "--kubeconfig=/nonexistent", "--server=127.0.0.1:1", "pod/"}, nil},
		"namespaces": {[]string{"explain", "--server=127.0.0.1:1", "-n", ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := CompletionArgs("/usr/local/bin/"+CompletionName, test.line)
			_, out, _ := runPlugin(t, "", args...)
			var words []string
			for line := range strings.Lines(out) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
				if word != "" && !strings.HasPrefix(word, ":") && word != "help" {
					words = append(words, word)
				}
			}
			if !slices.Equal(words, test.want) {
				t.Errorf("completes to %v, want %v:\n%s", words, test.want, out)
			}
		})
	}
	if args := CompletionArgs("/usr/local/bin/kubectl-modelrights", []string{"images"}); !slices.Equal(args, []string{"images"}) {
		t.Errorf("the plugin under its own name is run with %v", args)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, out, _ := runPlugin(t, "", "completion", shell); status != StatusOK || out == "" {
			t.Errorf("completion %s: exit status %d", shell, status)
		}
	}
}

// TestEveryCheckIsDescribed: what the decision asks is said in words.
func TestEveryCheckIsDescribed(t *testing.T) {
	s, err := entitlement.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s = s.Apply(entitlement.Changes{
		Licenses: map[string]*v1alpha1.ModelLicense{"l": builders.License("l").Repository(chatRepository).Obj()},
		Grants:   map[entitlement.GrantKey]*v1alpha1.ModelGrant{{Namespace: "n", Name: "g"}: builders.Grant("n", "g", "l").Obj()},
	})
	e := entitlement.Explain(entitlement.Request{Image: chatImage, Namespace: "n"}, s, now)
	checks := slices.Concat(e.Checks, e.Licenses[0].Checks, e.Licenses[0].Grants[0].Checks)
	for _, c := range checks {
		if checkTexts[c.Name] == "" {
			t.Errorf("check %s has no description", c.Name)
		}
	}
	if len(checks) != len(checkTexts) {
		t.Errorf("%d checks and %d descriptions", len(checks), len(checkTexts))
	}
}

// TestColour: what is painted says the same without paint.
func TestColour(t *testing.T) {
	list := &ExplanationList{Items: []Explanation{{Verdict: Refused, References: []ExplainedReference{{
		Verdict: Refused, Confidence: string(images.Declared), Explanation: entitlement.Explanation{Image: "a", Reason: "NoGrant"},
	}}}}}
	var plain, painted bytes.Buffer
	(&explanationPrinter{w: &plain}).list(list)
	(&explanationPrinter{w: &painted, colour: true}).list(list)
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("there is colour where none is wanted")
	}
	without := painted.String()
	for _, code := range []string{red, green, yellow, faint, strong, "0"} {
		without = strings.ReplaceAll(without, "\x1b["+code+"m", "")
	}
	if without == painted.String() || without != plain.String() {
		t.Errorf("painted:\n%q\nplain:\n%q", painted.String(), plain.String())
	}
}
