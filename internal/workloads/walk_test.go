package workloads

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/internal/images"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// lines describes what is found in an object: path, image, confidence and service account.
func lines(found []Found) []string {
	var all []string
	for _, f := range found {
		all = append(all, strings.TrimPrefix(describe(0, f), "0 "))
	}
	return all
}

func TestFind(t *testing.T) {
	tests := map[string]struct {
		object string
		want   []string
	}{
		"nothing":        {`{}`, nil},
		"no kind at all": {`{image: a.example/b}`, []string{`image = a.example/b (inferred) as default`}},
		"status is left out": {
			`{kind: Thing, apiVersion: e.example/v1, status: {image: "a.example/b"}, spec: {status: {image: "a.example/c"}}}`,
			[]string{`spec.status.image = a.example/c (inferred) as default`},
		},
		"annotations": {
			`{metadata: {labels: {image: "a.example/no"}, annotations: {sidecar/image: "oci://a.example/b", x.last-applied-configuration: "oci://a.example/no"}}}`,
			[]string{`metadata.annotations["sidecar/image"] = a.example/b (inferred) as default`},
		},
		"schemes in any string": {
			`{spec: {list: [1, "see OCI+NATIVE://a.example/b:1.", {deep: "modelcar://a.example/c"}], other: "s3://bucket/key"}}`,
			[]string{`spec.list[1] = a.example/b:1 (inferred) as default`, `spec.list[2].deep = a.example/c (inferred) as default`},
		},
		"names of image fields": {
			`{spec: {imageName: a.example/a, sidecarImage: a.example/b, base_image: a.example/c, imagePullPolicy: Always, imagePullSecrets: [x], images: a.example/no, imageURL: "https://a.example/disk.qcow2"}}`,
			[]string{`spec.base_image = a.example/c (inferred) as default`, `spec.imageName = a.example/a (inferred) as default`, `spec.sidecarImage = a.example/b (inferred) as default`},
		},
		"lists of images": {
			`{spec: {image: [a.example/a, {repository: a.example/b, tag: 1}]}}`,
			[]string{`spec.image[0] = a.example/a (inferred) as default`, `spec.image[1] = a.example/b:1 (inferred) as default`},
		},
		"account beside it": {
			`{spec: {serviceAccountName: outer, a: {image: a.example/a}, b: {serviceAccount: inner, image: a.example/b}, c: {serviceAccount: {create: true, name: made}, image: a.example/c}}}`,
			[]string{`spec.a.image = a.example/a (inferred) as outer`, `spec.b.image = a.example/b (inferred) as inner`, `spec.c.image = a.example/c (inferred) as made`},
		},
		"pod spec with what is no container": {
			`{spec: {containers: [{image: a.example/a}, 7], template: {spec: {containers: []}}}}`,
			[]string{`spec.containers[0].image = a.example/a (inferred) as default`},
		},
		"image volumes only where volumes are": {
			`{spec: {containers: [{name: a, image: a.example/a}], volumes: [{name: v, image: {reference: a.example/v}}, 3, {name: w, image: 3}]}}`,
			[]string{`spec.volumes[0].image.reference = a.example/v (declared) as default`, `spec.containers[0].image = a.example/a (declared) as default`},
		},
		"variables are expanded as the kubelet does": {
			`{spec: {containers: [{name: a, env: [{name: R, value: a.example}, {name: S, valueFrom: {secretKeyRef: {name: x, key: y}}}], args: ["oci://$(R)/b", "oci://$(S)/c", "oci://$$(R)/d"]}]}}`,
			[]string{`spec.containers[0].args[0] = a.example/b (inferred) as default`, `spec.containers[0].args[1] = $(S)/c (unresolved) as default`, `spec.containers[0].args[2] = $(R)/d (unresolved) as default`},
		},
		"odd types do not matter": {
			`{apiVersion: 1, kind: [a], metadata: [], spec: {containers: [{image: {a: b}, args: {a: b}, env: [1], command: 2, name: 3}], volumes: {a: b}, initContainers: 5, image: null, serviceAccountName: []}, items: 3}`,
			nil,
		},
		"several documents in a list of lists": {
			`{kind: List, items: [{kind: PodList, items: [{spec: {containers: [{image: a.example/a}]}}]}, 5, {kind: Pod, apiVersion: v1, spec: {containers: [{image: a.example/b}]}}]}`,
			[]string{`items[0].items[0].spec.containers[0].image = a.example/a (declared) as default`, `items[2].spec.containers[0].image = a.example/b (declared) as default`},
		},
		"items of a list of one kind need not say it": {
			`{kind: NIMServiceList, apiVersion: apps.nvidia.com/v1alpha1, items: [{metadata: {name: chat}, spec: {image: {repository: a.example/m, tag: x}}}]}`,
			[]string{`items[0].spec.image = a.example/m:x (declared) as chat`},
		},
		"an object within, with its own table entry": {
			`{kind: Wrapper, apiVersion: e.example/v1, spec: {serviceAccountName: outer, inner: {apiVersion: kaito.sh/v1beta1, kind: Workspace, status: {image: no}, tuning: {output: {image: a.example/no}, input: {image: a.example/in}}}}}`,
			[]string{`spec.inner.tuning.input.image = a.example/in (declared) as outer`},
		},
		"words of a script": {
			`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {t: {script: {source: "x=a.example/m:1; docker pull 'b.example:5000/m' && c.example/m@sha256:123, python3 run.py lib/x ./a.example/x https://d.example/x v1.2/x"}}}}`,
			[]string{`spec.t.script.source = a.example/m:1 (inferred) as default`, `spec.t.script.source = b.example:5000/m (inferred) as default`, `spec.t.script.source = v1.2/x (inferred) as default`},
		},
		"a manifest that does not parse is a text": {
			`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {templates: [{resource: {manifest: "{{x}}: [\n a.example/m:1"}}]}}`,
			[]string{`spec.templates[0].resource.manifest = a.example/m:1 (inferred) as default`},
		},
		"a manifest with anchors is a text": {
			`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {templates: [{resource: {manifest: "image: &x a.example/m:1\nb: [*x, *x]"}}]}}`,
			[]string{`spec.templates[0].resource.manifest = a.example/m:1 (inferred) as default`},
		},
		"several manifests in one string": {
			`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, spec: {templates: [{resource: {manifest: "---\n{kind: Pod, apiVersion: v1, spec: {containers: [{image: a.example/m:1}]}}\n---\nspec: {image: a.example/n}"}}]}}`,
			[]string{
				`spec.templates[0].resource.manifest: spec.containers[0].image = a.example/m:1 (declared) as default`,
				`spec.templates[0].resource.manifest: spec.image = a.example/n (inferred) as default`,
			},
		},
		"an image's ID": {
			`{spec: {containers: [{image: "sha256:4bf5"}]}}`,
			[]string{`spec.containers[0].image = sha256:4bf5 (declared) as default`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(tc.want, lines(Find(object(t, tc.object), Default()))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParts(t *testing.T) {
	tests := map[string]struct{ image, want string }{
		"repository and tag":          {`{repository: a.example/m, tag: v1}`, "a.example/m:v1"},
		"registry too":                {`{registry: a.example, repository: team/m, tag: v1}`, "a.example/team/m:v1"},
		"registry with a slash":       {`{registry: a.example/, repository: /m, tag: v1}`, "a.example/m:v1"},
		"registry and name":           {`{registry: a.example, name: "team/m:v1"}`, "a.example/team/m:v1"},
		"the name has the tag":        {`{registry: a.example, name: "m:v1", tag: v2}`, "a.example/m:v1"},
		"repository, image, version":  {`{repository: a.example/team, image: m, version: v1}`, "a.example/team/m:v1"},
		"image before name":           {`{repository: a.example/team, image: m, name: x, version: v1}`, "a.example/team/m:v1"},
		"name repeats the repository": {`{repository: a.example/team/m, name: m, tag: v1}`, "a.example/team/m:v1"},
		"tag as a number":             {`{repository: a.example/m, tag: 1.5}`, "a.example/m:1.5"},
		"tag as a whole number":       {`{repository: a.example/m, tag: 20241120}`, "a.example/m:20241120"},
		"digest":                      {`{repository: a.example/m, tag: v1, digest: "sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"}`, "a.example/m:v1@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"},
		"digest as version":           {`{repository: a.example/m, version: "sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"}`, "a.example/m@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"},
		"port, not a tag":             {`{registry: "a.example:5000", repository: m, tag: v1}`, "a.example:5000/m:v1"},
		"scheme":                      {`{registry: "oci://a.example", repository: m, tag: v1}`, "a.example/m:v1"},
		"other address":               {`{repository: "https://a.example/charts", tag: v1}`, ""},
		"registry alone":              {`{registry: a.example, tag: v1}`, ""},
		"no repository":               {`{tag: v1, pullPolicy: Always}`, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var got string
			if found := Find(object(t, "spec: {image: "+tc.image+"}"), Table{}); len(found) == 1 {
				got = found[0].Image
			} else if len(found) > 1 {
				t.Errorf("found %v", lines(found))
			}
			if got != tc.want {
				t.Errorf("image = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	found := Find(object(t, `
kind: Deployment
apiVersion: apps/v1
metadata: {namespace: ml-prod, labels: {app: other}}
spec:
  template:
    metadata: {labels: {app: chat}}
    spec: {serviceAccountName: llm, containers: [{name: a, image: a.example/a}, {name: b, image: a.example/b}]}
`), Table{})
	if len(found) != 2 || found[0].Template != found[1].Template {
		t.Fatalf("references of one pod template have not one Template: %v", found)
	}
	want := &Template{Path: "spec.template", Namespace: "ml-prod", ServiceAccount: "llm", Labels: map[string]string{"app": "chat"}}
	if diff := gocmp.Diff(want, found[0].Template); diff != "" {
		t.Error(diff)
	}
	if found[1].Kind != images.UseContainer || found[1].Name != "b" {
		t.Errorf("the place is %s %q", found[1].Kind, found[1].Name)
	}

	for _, f := range Find(object(t, `{kind: Custom, apiVersion: e.example/v1, metadata: {labels: {app: other}}, spec: {containers: [{image: a.example/a}]}}`), Table{}) {
		if f.Template.Labels != nil {
			t.Errorf("the labels of a custom object are taken for those of its pods: %v", f.Template.Labels)
		}
	}
}

// hostile objects are as large as the API server takes them, and as bad as can be thought of.
func hostile() map[string]string {
	const size = 1 << 20
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	deep := func(open, inner, end string, levels int) string {
		return strings.Repeat(open, levels) + inner + strings.Repeat(end, levels)
	}
	all := map[string]string{
		"many containers":   `{"spec":{"containers":[` + strings.TrimSuffix(fill(`{"name":"a","image":"registry.example.com/models/chat:2.1"},`), ",") + `]}}`,
		"10,000 containers": `{"spec":{"containers":[` + strings.TrimSuffix(strings.Repeat(`{"name":"a","image":"registry.example.com/models/chat:2.1"},`, 10_000), ",") + `]}}`,
		"empty containers":  `{"spec":{"containers":[` + strings.TrimSuffix(fill(`{},`), ",") + `]}}`,
		"numbers":           `{"spec":[` + strings.TrimSuffix(fill(`1,`), ",") + `]}`,
		"deep lists":        `{"spec":` + deep("[", `"oci://a.example/b"`, "]", 9_000) + `}`,
		"deep maps":         `{"spec":` + deep(`{"spec":`, `{"containers":[{"image":"a.example/b"}]}`, "}", 9_000) + `}`,
		"deep pod specs":    `{"spec":` + deep(`{"containers":[{"image":"a.example/b"}],"x":`, `1`, "}", 9_000) + `}`,
		"deep objects":      deep(`{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":`, `1`, "}", 9_000),
		"many URIs":         `{"spec":{"a":"` + fill(`oci://a.example/b `) + `"}}`,
		"many URI fields":   `{"spec":[` + strings.TrimSuffix(fill(`"oci://a/b",`), ",") + `]}`,
		"schemes in a row":  `{"spec":{"a":"` + fill(`oci://`) + `"}}`,
		"one long image":    `{"spec":{"image":"` + fill(`a/`) + `"}}`,
		"one long key":      `{"` + fill(`k.`) + `":{"image":"a.example/b"}}`,
		"one plain key":     `{"spec":{"` + strings.Repeat("k", size/2) + `":[` + strings.TrimSuffix(strings.Repeat(`{"containers":[{}]},`, size/40), ",") + `]}}`,
		"long placeholders": `{"spec":{"containers":[{"args":["oci://` + fill(`$(`) + `"]}]}}`,
		"many variables":    `{"spec":{"containers":[{"args":["oci://$(A)"],"env":[` + strings.TrimSuffix(fill(`{"name":"A","value":"$(A)$(A)oci://"},`), ",") + `]}]}}`,
		"script of words":   `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":{"script":{"source":"` + fill(`a.b/c `) + `"}}}`,
		"manifests": `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":{"t":[` +
			strings.TrimSuffix(strings.Repeat(`{"resource":{"manifest":"`+strings.Repeat("- [[[[[[a]]]]]]\\n", 500)+`"}},`, 100), ",") + `]}}`,
		"anchors":         `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":{"resource":{"manifest":"a: &a ` + strings.Repeat("x", 100<<10) + `\nb: [` + strings.Repeat("*a,", 40_000) + `]"}}}`,
		"deep manifest":   `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":{"resource":{"manifest":"` + strings.Repeat("[", 200_000) + `"}}}`,
		"tables of rules": `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":` + deep(`{"container":{"script":`, `{"image":"a.example/b"}`, "}}", 45) + `}`,
		"many accounts":   `{"spec":[` + strings.TrimSuffix(fill(`{"serviceAccount":"a","image":"b/c"},`), ",") + `]}`,
	}
	return all
}

func TestHostileObjects(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			var o map[string]any
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				t.Fatal(err)
			}
			var result Result
			allocated := testing.AllocsPerRun(1, func() { result = Scan(o, Default()) })
			if allocated > 4_000_000 {
				t.Errorf("made %.0f allocations", allocated)
			}
			if len(result.Found) > MaxFound {
				t.Errorf("found %d", len(result.Found))
			}
			bytes := 0
			for _, f := range result.Found {
				bytes += len(f.Path) + len(f.Image) + len(f.Normalized)
				if len(f.Path) > MaxPath || len(f.Image) > MaxImage || f.Template == nil {
					t.Fatalf("finding without bounds: path of %d bytes, image of %d", len(f.Path), len(f.Image))
				}
			}
			if bytes > 16<<20 {
				t.Errorf("findings hold %d bytes", bytes)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	containers := func(n int) map[string]any {
		var list []any
		for i := range n {
			list = append(list, map[string]any{"image": fmt.Sprintf("a.example/m:%d", i)})
		}
		return map[string]any{"spec": map[string]any{"containers": list}}
	}
	nested := func(levels int) map[string]any {
		o := map[string]any{"image": "a.example/m"}
		for range levels {
			o = map[string]any{"x": o}
		}
		return o
	}
	list := make([]any, MaxNodes)
	tests := map[string]struct {
		object    map[string]any
		found     int
		truncated bool
	}{
		"as many as may be found":     {containers(MaxFound), MaxFound, false},
		"one more":                    {containers(MaxFound + 1), MaxFound, true},
		"as deep as is looked":        {nested(MaxDepth - 2), 1, false},
		"too deep":                    {nested(MaxDepth + 1), 0, true},
		"more values than are looked": {map[string]any{"a": list, "z": map[string]any{"image": "a.example/m"}}, 0, true},
		"a string too long":           {map[string]any{"a": strings.Repeat("x", MaxString) + "oci://a.example/m"}, 0, true},
		"a string just long enough":   {map[string]any{"a": strings.Repeat("x", MaxString-len("oci://a.example/m")-1) + " oci://a.example/m"}, 1, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := Scan(tc.object, Table{})
			if len(got.Found) != tc.found || got.Truncated != tc.truncated {
				t.Errorf("found %d, truncated %t; want %d, %t", len(got.Found), got.Truncated, tc.found, tc.truncated)
			}
		})
	}
}

// Of all manifests in one object no more text is parsed than of one string is looked at; the rest is taken for texts.
func TestManifestsAreBounded(t *testing.T) {
	manifest := map[string]any{"resource": map[string]any{"manifest": "spec: {image: a.example/m:1}\n" + strings.Repeat("#\n", MaxString/5)}}
	found := Find(map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": map[string]any{"templates": []any{manifest, manifest, manifest}},
	}, Default())
	want := []string{
		`spec.templates[0].resource.manifest: spec.image = a.example/m:1 (inferred) as default`,
		`spec.templates[1].resource.manifest: spec.image = a.example/m:1 (inferred) as default`,
		`spec.templates[2].resource.manifest = a.example/m:1 (inferred) as default`,
	}
	if diff := gocmp.Diff(want, lines(found)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func FuzzFind(f *testing.F) {
	for _, text := range []string{
		`{"spec":{"containers":[{"image":"a.example/b","args":["oci://$(A)"],"env":[{"name":"A","value":"x"}]}]}}`,
		`{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","spec":{"templates":[{"resource":{"manifest":"kind: Pod\nspec: {containers: [{image: a}]}"},"script":{"source":"a.b/c"}}]}}`,
		`{"kind":"List","items":[{"kind":"PodList","items":[{}]}]}`,
		`{"apiVersion":"apps.nvidia.com/v1","kind":"NIMPipeline","spec":{"services":[{"name":"x","spec":{"image":{"repository":"a","tag":1e300}}}]}}`,
		`{"metadata":{"annotations":{"a/b":"oci://x"}},"spec":{"image":{"registry":"oci://","name":":","digest":"@"}}}`,
		`{"apiVersion":"sparkoperator.k8s.io/v1beta2","kind":"SparkApplication","spec":{"sparkConf":{"spark.kubernetes.container.image":"x"}}}`,
	} {
		f.Add([]byte(text))
	}
	table := Default()
	f.Fuzz(func(t *testing.T, data []byte) {
		var o map[string]any
		if json.Unmarshal(data, &o) != nil {
			return
		}
		first := Scan(o, table)
		for _, x := range first.Found {
			if x.Template == nil || x.Image == "" || len(x.Image) > MaxImage || len(x.Path) > MaxPath {
				t.Fatalf("malformed finding %+v", x)
			}
			if x.Confidence != images.Unresolved && x.Normalized == "" {
				if _, id := normalize(x.Image); !id {
					t.Fatalf("%q is %s, and does not parse", x.Image, x.Confidence)
				}
			}
		}
		if diff := gocmp.Diff(first, Scan(o, table)); diff != "" {
			t.Fatalf("two walks differ:\n%s", diff)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	cases := map[string]map[string]any{"deployment": manifests(b, "deployment.yaml")[0], "argo": manifests(b, "argo.yaml")[0]}
	for name, text := range hostile() {
		var o map[string]any
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			b.Fatal(err)
		}
		cases["1 MiB of "+name] = o
	}
	table := Default()
	for name, o := range cases {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Scan(o, table)
			}
		})
	}
}
