package workloads

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestParseTable(t *testing.T) {
	tests := map[string]struct {
		table string
		want  []string // parts of the error; none: the table is right
	}{
		"empty":               {``, nil},
		"a group alone":       {`{workloads: [{group: serving.example.com}]}`, nil},
		"everything":          {`{workloads: [{group: e.example, resources: [things], kinds: [Thing], serviceAccounts: [spec.a, "spec.b[].c"], serviceAccount: "{metadata.name}-x", images: [spec.a, {path: spec.b, parts: {repository: r}}], uris: ["**.u"], texts: ["spec.*.t"], manifests: [spec.m], ignore: ['metadata.annotations["a/b"]']}]}`, nil},
		"JSON":                {`{"workloads":[{"group":"e.example","images":["spec.a"]}]}`, nil},
		"no YAML":             {`{`, []string{"reading the table"}},
		"unknown field":       {`{workloads: [{group: e.example, image: [a]}]}`, []string{"image"}},
		"unknown part":        {`{workloads: [{group: e.example, images: [{path: a, parts: {tags: x}}]}]}`, []string{"tags"}},
		"image as a number":   {`{workloads: [{group: e.example, images: [3]}]}`, []string{"an image is a path"}},
		"no group":            {`{workloads: [{images: [a]}]}`, []string{`workloads[0] (group "")`, "must be the API group of a custom resource"}},
		"a built-in group":    {`{workloads: [{group: apps}]}`, []string{"must be the API group of a custom resource"}},
		"a group with case":   {`{workloads: [{group: E.example}]}`, []string{`"E.example"`}},
		"a kind for a plural": {`{workloads: [{group: e.example, resources: [Things]}]}`, []string{`"Things" is not the plural name`}},
		"odd kind":            {`{workloads: [{group: e.example, kinds: ["a b"]}]}`, []string{`"a b" is not a kind`}},
		"two mistakes": {
			`{workloads: [{group: e.example, texts: [""], uris: ["a..b"]}, {group: f.example}, {group: g.example, serviceAccounts: ["a[]"]}]}`,
			[]string{`workloads[0] (group "e.example"): uris: path "a..b": step ""`, "texts: a path is empty", `workloads[2] (group "g.example"): serviceAccounts: path "a[]" must end in the name of a field`},
		},
		"account in a list":    {`{workloads: [{group: e.example, serviceAccount: "{a[].b}"}]}`, []string{"must name one field"}},
		"brace not closed":     {`{workloads: [{group: e.example, serviceAccount: "{a"}]}`, []string{"not closed"}},
		"path ends in **":      {`{workloads: [{group: e.example, images: ["a.**"]}]}`, []string{`path "a.**" ends in **`}},
		"too many **":          {`{workloads: [{group: e.example, images: ["**.a.**.b.**.c"]}]}`, []string{"more than two steps **"}},
		"a path that is long":  {`{workloads: [{group: e.example, images: ["a` + strings.Repeat(".a", 32) + `"]}]}`, []string{"more than 32 steps"}},
		"brackets":             {`{workloads: [{group: e.example, images: ['a["b]']}]}`, []string{`a field in brackets is written ["NAME"]`}},
		"an index":             {`{workloads: [{group: e.example, images: ["a[0].b"]}]}`, []string{`path "a[0].b"`}},
		"without a dot":        {`{workloads: [{group: e.example, images: ["a[]b"]}]}`, []string{"joined by dots"}},
		"too many paths":       {`{workloads: [{group: e.example, images: [` + strings.TrimSuffix(strings.Repeat("a,", MaxPaths+1), ",") + `]}]}`, []string{"more than 64 paths"}},
		"too many entries":     {`{workloads: [` + strings.Repeat("{group: e.example},", MaxWorkloads+1) + `]}`, []string{"more than 256 workloads"}},
		"too long":             {`# ` + strings.Repeat("x", MaxTable), []string{"longer than"}},
		"a string for a table": {`workloads: all of them`, []string{"reading the table"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTable([]byte(tc.table))
			if len(tc.want) == 0 && err != nil {
				t.Errorf("refused: %v", err)
			}
			for _, part := range tc.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error = %v, want one that says %s", err, part)
				}
			}
		})
	}
}

// The kinds that are documented to be covered are in the table, unless they need no entry.
func TestDefaultTable(t *testing.T) {
	for _, kind := range []string{
		"InferenceService.serving.kserve.io", "LLMInferenceService.serving.kserve.io", "*.leaderworkerset.x-k8s.io", "*.jobset.x-k8s.io", "*.ray.io",
		"*.trainer.kubeflow.org", "*.kubeflow.org", "NIMService.apps.nvidia.com", "NIMPipeline.apps.nvidia.com", "*.production-stack.vllm.ai", "*.kaito.sh",
		"*.orchestration.aibrix.ai", "*.model.aibrix.ai", "DynamoGraphDeployment.nvidia.com", "DynamoComponentDeployment.nvidia.com",
		"Workflow.argoproj.io", "Task.tekton.dev", "*.batch.volcano.sh", "SparkApplication.sparkoperator.k8s.io", "*.workload.codeflare.dev", "*.serving.knative.dev",
	} {
		if name, group, _ := strings.Cut(kind, "."); Default().lookup(group, strings.Replace(name, "*", "Any", 1)) == nil {
			t.Errorf("the table has no entry for %s", kind)
		}
	}
	groups := Default().Groups()
	if got := groups["serving.kserve.io"]; !slices.Contains(got, "inferenceservices") || !slices.Contains(got, "llminferenceservices") {
		t.Errorf("resources of serving.kserve.io are %v", got)
	}
	if got, ok := groups["apps.nvidia.com"]; !ok || got != nil {
		t.Errorf("resources of apps.nvidia.com are %v, want all", got)
	}
	if len(groups) > MaxRuleGroups {
		t.Errorf("the table has %d groups, rules there are for %d", len(groups), MaxRuleGroups)
	}
}

func TestTableOfYours(t *testing.T) {
	further, err := ParseTable([]byte(`
workloads:
- group: serving.example.com
  kinds: [Model]
  serviceAccounts: [spec.runAs]
  serviceAccount: "{metadata.name}-runner"
  images:
  - spec.model
  - path: spec.engine
    parts: {registry: host, repository: repo, tag: rev}
  - "spec.sides[]"
  uris: [spec.source]
  texts: [spec.run]
  ignore: [spec.output]
- group: apps.nvidia.com
  kinds: [NIMService]
  images: [spec.other]
`))
	if err != nil {
		t.Fatal(err)
	}
	table := Default().With(further)
	tests := map[string]struct {
		object string
		want   []string
	}{
		"every kind of path": {
			`{apiVersion: serving.example.com/v1, kind: Model, metadata: {name: m}, spec: {model: a.example/m, engine: {host: a.example, repo: e, rev: 2, tag: no},
			  sides: [a.example/s, {repository: a.example/t, tag: 1}], source: "oci://a.example/u", run: "pull a.example/v:1 b", output: {image: a.example/no}}}`,
			[]string{
				`spec.engine = a.example/e:2 (declared) as m-runner`, `spec.model = a.example/m (declared) as m-runner`, `spec.run = a.example/v:1 (inferred) as m-runner`,
				`spec.sides[0] = a.example/s (declared) as m-runner`, `spec.sides[1] = a.example/t:1 (declared) as m-runner`, `spec.source = a.example/u (declared) as m-runner`,
			},
		},
		"the object names the account":     {`{apiVersion: serving.example.com/v1, kind: Model, spec: {runAs: me, model: a.example/m}}`, []string{`spec.model = a.example/m (declared) as me`}},
		"nothing to make the name of":      {`{apiVersion: serving.example.com/v1, kind: Model, spec: {model: a.example/m}}`, []string{`spec.model = a.example/m (declared) as default`}},
		"another kind of the group":        {`{apiVersion: serving.example.com/v1, kind: Other, metadata: {name: m}, spec: {model: a.example/m, image: a.example/i}}`, []string{`spec.image = a.example/i (inferred) as default`}},
		"another version":                  {`{apiVersion: serving.example.com/v9alpha1, kind: Model, spec: {model: a.example/m}}`, []string{`spec.model = a.example/m (declared) as default`}},
		"it counts before the default one": {`{apiVersion: apps.nvidia.com/v1, kind: NIMService, metadata: {name: m}, spec: {other: a.example/m, image: {repository: a.example/i, tag: x}}}`, []string{`spec.image = a.example/i:x (inferred) as default`, `spec.other = a.example/m (declared) as default`}},
		"types that were not expected":     {`{apiVersion: serving.example.com/v1, kind: Model, spec: {model: [[7], {a: oci://a.example/x}], source: {image: a.example/y}, run: 5, sides: x}}`, []string{`spec.model[1].a = a.example/x (inferred) as default`, `spec.source.image = a.example/y (inferred) as default`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(tc.want, lines(Find(object(t, tc.object), table))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	if _, ok := table.Groups()["serving.example.com"]; !ok {
		t.Error("the group of yours gets no rules")
	}
}

func TestPatterns(t *testing.T) {
	for pattern, paths := range map[string]map[string]bool{
		"a.b":         {"a.b": true, "a": false, "a.b.c": false, "a[0].b": false},
		"a[].b":       {"a[0].b": true, "a[7].b": true, "a.b": false, "a[0][1].b": false},
		"a.*.b":       {"a.x.b": true, "a[0].b": false, "a.b": false},
		"**.b":        {"b": true, "a.b": true, "a[0].x.b": true, "a.c": false},
		"a.**.b.c":    {"a.b.c": true, "a.b.b.c": true, "a.x[0].b.c": true, "b.c": false, "a.b.x.c": false},
		"**.a.**.b":   {"a.b": true, "x.a.a.b": true, "a": false},
		`a["b.c"].d`:  {`a["b.c"].d`: true, "a.b.c.d": false},
		`["x/y"][].z`: {`["x/y"][1].z`: true},
	} {
		tokens, err := parsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range paths {
			active := states{{rule: &rule{pattern: tokens}}}
			for _, e := range elements(t, path) {
				active = active.next(e)
			}
			if got := active.accepted() != nil; got != want {
				t.Errorf("%s matches %s: %t, want %t", pattern, path, got, want)
			}
			if got := formatPath(elements(t, path)); got != path {
				t.Errorf("%s is written as %s", path, got)
			}
		}
	}
}

// elements reads a path that formatPath wrote.
func elements(t *testing.T, path string) []element {
	t.Helper()
	var all []element
	for path != "" {
		var index int
		if n, _ := fmt.Sscanf(path, "[%d]", &index); n == 1 {
			all, path = append(all, element{index: index, list: true}), strings.TrimPrefix(path[strings.Index(path, "]")+1:], ".")
			continue
		}
		end := strings.IndexAny(path[1:], ".[") + 1
		if strings.HasPrefix(path, `["`) {
			end = strings.Index(path, "]") + 1
		}
		if end == 0 {
			end = len(path)
		}
		step := path[:end]
		path = strings.TrimPrefix(path[end:], ".")
		if tokens, err := parsePattern(step); err == nil && len(tokens) == 1 {
			all = append(all, element{key: tokens[0].key})
		} else {
			t.Fatalf("path step %q: %v", step, err)
		}
	}
	return all
}
