package plugin

import (
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// runPlugin runs a command line and returns the exit status, and what was printed.
func runPlugin(t *testing.T, stdin string, args ...string) (status int, out, errOut string) {
	t.Helper()
	streams, in, o, e := genericiooptions.NewTestIOStreams()
	in.WriteString(stdin)
	status = Run(t.Context(), args, streams)
	return status, o.String(), e.String()
}

const brokenErrors = "error: testdata/broken.yaml: document 2 (line 6): yaml: line 7: did not find expected ',' or ']'\n" +
	"error: testdata/broken.yaml: document 4 (line 13): is a sequence, not an object with fields\n"

func TestImages(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		status int
		err    string
	}{
		"images":            {args: []string{"-f", "testdata/images.yaml"}},
		"images-wide":       {args: []string{"-f", "testdata/images.yaml,testdata/chat.yaml", "-o", "wide"}},
		"images-name":       {args: []string{"-f", "testdata/images.yaml", "-f", "testdata/images.yaml", "-o", "name"}},
		"images-json":       {args: []string{"-f", "testdata/chat.yaml", "-o", "json"}},
		"images-yaml":       {args: []string{"-f", "testdata/broken.yaml", "-o", "yaml"}, status: StatusError, err: brokenErrors},
		"images-jsonpath":   {args: []string{"-f", "testdata/chat.yaml", "-o", `jsonpath={range .items[*]}{.path}{"\n"}{end}`}},
		"images-inferred":   {args: []string{"-f", "testdata/images.yaml", "--confidence", "inferred,unresolved", "--no-headers"}},
		"images-broken":     {args: []string{"-f", "testdata/broken.yaml"}, status: StatusError, err: brokenErrors},
		"images-stdin":      {args: []string{"-f", "-"}, stdin: `{"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}, "spec": {"containers": [{"image": "b"}]}}]}`},
		"images-table":      {args: []string{"-f", "-", "--workload-table", "testdata/table.yaml"}, stdin: `{"apiVersion": "serving.example.com/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": {"engine": {"container": "registry.example.com/engine:1"}}}`},
		"images-none":       {args: []string{"-f", "-"}, stdin: "kind: ConfigMap\napiVersion: v1\ndata: {a: b}\n", err: "No images found.\n"},
		"images-fail-on":    {args: []string{"-f", "testdata/chat.yaml", "--fail-on", "unresolved"}, status: StatusFindings, err: "error: 1 reference unresolved (--fail-on)\n"},
		"images-fail-on-ok": {args: []string{"-f", "testdata/chat.yaml", "--confidence", "unresolved", "--fail-on", "inferred"}, status: StatusFindings, err: "error: 1 reference inferred (--fail-on)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errOut := runPlugin(t, test.stdin, append([]string{"images"}, test.args...)...)
			if status != test.status || errOut != test.err {
				t.Errorf("exit status %d, want %d; complains:\n%swant:\n%s", status, test.status, errOut, test.err)
			}
			if strings.ContainsAny(out, "\x1b\a") {
				t.Error("a manifest steers the terminal")
			}
			compareGolden(t, name, out)
		})
	}
}

// TestImagesNeedsNoCluster: nothing is asked of an API server, nor is a kubeconfig read.
func TestImagesNeedsNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nonexistent/kubeconfig")
	if status, _, errOut := runPlugin(t, "", "images", "-f", "testdata/chat.yaml", "--context", "none", "--server", "https://192.0.2.1"); status != StatusOK {
		t.Errorf("exit status %d: %s", status, errOut)
	}
}

func TestUsageErrors(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		err  string
	}{
		"no files":            {[]string{"images"}, "must specify one of -f and -k"},
		"both":                {[]string{"images", "-f", "a", "-k", "b"}, "only one of -f and -k"},
		"recursive kustomize": {[]string{"images", "-R", "-k", "b"}, "-R cannot be used with -k"},
		"argument":            {[]string{"images", "a.yaml"}, `unexpected argument "a.yaml"`},
		"confidence":          {[]string{"images", "-f", "a", "--confidence", "sure"}, "--confidence=sure: it must be one of declared, inferred, unresolved"},
		"fail-on":             {[]string{"images", "-f", "a", "--fail-on", "sure"}, "--fail-on=sure: it must be one of"},
		"output":              {[]string{"images", "-f", "a", "-o", "xml"}, `unknown output format "xml": it must be one of wide, name, json`},
		"jsonpath":            {[]string{"images", "-f", "a", "-o", "jsonpath={"}, "unclosed action"},
		"flag":                {[]string{"images", "--nonsense"}, "unknown flag: --nonsense\nSee 'kubectl modelrights images --help' for usage."},
		"stdin twice":         {[]string{"images", "-f", "-", "-f", "-"}, "standard input can be read once"},
		"table":               {[]string{"images", "-f", "a", "--workload-table", "none.yaml"}, "--workload-table: open none.yaml"},
		"command":             {[]string{"imags"}, `unknown command "imags"`},
		"explain nothing":     {[]string{"explain"}, "must specify one of -f, -k and TYPE[/NAME]"},
		"explain both":        {[]string{"explain", "-f", "a", "pod/b"}, "only one of -f, -k and TYPE[/NAME]"},
		"explain fail-on":     {[]string{"explain", "pod/b", "--fail-on", "inferred"}, "--fail-on=inferred: it must be unresolved"},
		"explain -A":          {[]string{"explain", "-f", "a", "-A"}, "-l and -A select objects of the cluster"},
		"version argument":    {[]string{"version", "x"}, `unexpected argument "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errOut := runPlugin(t, "", test.args...)
			if status != StatusError || !strings.Contains(errOut, test.err) {
				t.Errorf("exit status %d, want %d; says %q, want %q", status, StatusError, errOut, test.err)
			}
			if out != "" {
				t.Errorf("prints %q", out)
			}
		})
	}
}
