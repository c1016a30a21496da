package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// summary is what a test wants to know of what was read: place, kind and name; or place and error.
func summary(objects []Object, errs []*Error) []string {
	lines := []string{}
	for _, o := range objects {
		metadata, _ := o.Content["metadata"].(map[string]any)
		lines = append(lines, strings.TrimPrefix(fmt.Sprintf("%s %v %v %v", o.Place, o.Content["apiVersion"], o.Content["kind"], metadata["name"]), "f: "))
	}
	for _, e := range errs {
		lines = append(lines, strings.TrimPrefix(e.Error(), "f: "))
	}
	return lines
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"nothing":                 {"", []string{}},
		"comments alone":          {"# a\n---\n\n# b\n---\n", []string{}},
		"one document":            {"kind: A\nmetadata: {name: x}\n", []string{"document 1 (line 1) <nil> A x"}},
		"several":                 {"kind: A\n---\nkind: B\n---\nkind: C", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>", "document 3 (line 5) <nil> C <nil>"}},
		"empty ones do not count": {"---\n---\n# none\n---\nkind: A\n---\nnull\n---\n---\nkind: B\n", []string{"document 1 (line 5) <nil> A <nil>", "document 2 (line 10) <nil> B <nil>"}},
		"content behind a marker": {"--- {kind: A}\n--- # comment\nkind: B\n", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},
		"a marker needs space":    {"kind: A\n---x: 1\n", []string{"document 1 (line 1) <nil> A <nil>"}},
		"an indented one is text": {"kind: A\ntext: |\n  ---\n  kind: B\n", []string{"document 1 (line 1) <nil> A <nil>"}},
		"the end of a document":   {"kind: A\n...\nkind: B\n", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},
		"directives":              {"%YAML 1.1\n---\nkind: A\n", []string{"document 1 (line 3) <nil> A <nil>"}},
		"lines of Windows":        {"kind: A\r\n---\r\nkind: B\r\n", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},
		"lines of old Macs":       {"kind: A\r---\rkind: B\r", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},
		"lines of Unicode":        {"kind: A\u2028---\u2028kind: B\u0085---\u0085kind: C", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>", "document 3 (line 5) <nil> C <nil>"}},

		"JSON":                   {`{"kind": "A"}`, []string{"document 1 (line 1) <nil> A <nil>"}},
		"JSON, one behind other": {"{\"kind\": \"A\"}\n{\"kind\": \"B\"}{\"kind\": \"C\"}", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 2) <nil> B <nil>", "document 3 (line 2) <nil> C <nil>"}},
		"JSON between markers":   {"{\"kind\": \"A\"}\n---\n{\"kind\": \"B\"}\n", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},
		"YAML like JSON":         {"{kind: A, x: [1, 2]}\n", []string{"document 1 (line 1) <nil> A <nil>"}},
		"JSON before YAML":       {"{\"kind\": \"A\"}\n---\nkind: B\n", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 3) <nil> B <nil>"}},

		"a List": {"kind: List\nitems:\n- {kind: A}\n- {kind: B}\n", []string{"document 1 (line 1), items[0] <nil> A <nil>", "document 1 (line 1), items[1] <nil> B <nil>"}},
		"a List in a List": {
			"kind: List\nitems:\n- {kind: List, items: [{kind: A}]}\n- {kind: B}\n",
			[]string{"document 1 (line 1), items[0].items[0] <nil> A <nil>", "document 1 (line 1), items[1] <nil> B <nil>"},
		},
		"a list of one kind":     {"apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: x}}]\n", []string{"document 1 (line 1), items[0] v1 Pod x"}},
		"items that are no List": {"kind: Menu\nitems: [{kind: A}]\n", []string{"document 1 (line 1) <nil> Menu <nil>"}},

		"a broken one between others": {
			"kind: A\n---\nkind: [\n---\nkind: C\n",
			[]string{"document 1 (line 1) <nil> A <nil>", "document 3 (line 5) <nil> C <nil>", "document 2 (line 3): yaml: line 3: did not find expected node content"},
		},
		"broken JSON between others": {
			"{\"kind\": \"A\"}\n{\"kind\": }\n{\"kind\": \"C\"}\n",
			[]string{"document 1 (line 1) <nil> A <nil>", "document 3 (line 3) <nil> C <nil>", "document 2 (line 2): json: line 2: invalid character '}' looking for beginning of value"},
		},
		"JSON that ends too early": {"{\"kind\": \"A\"}\n{\"kind\": \"B\"", []string{"document 1 (line 1) <nil> A <nil>", "document 2 (line 2): json: ends within a value"}},
		"a template": {
			"kind: {{ .Values.kind }}\n",
			[]string{"document 1 (line 1): yaml: invalid map key: map[interface {}]interface {}{\".Values.kind\":interface {}(nil)} (is it a template? Render it first, for example with helm template)"},
		},
		"no object":           {"just text\n---\n- a\n---\n3\n", []string{"document 1 (line 1): is a string, not an object with fields", "document 2 (line 3): is a sequence, not an object with fields", "document 3 (line 5): is a number, not an object with fields"}},
		"an item that is not": {"kind: List\nitems: [{kind: A}, b, null]\n", []string{"document 1 (line 1), items[0] <nil> A <nil>", "document 1 (line 1), items[1]: is a string, not an object with fields", "document 1 (line 1), items[2]: is empty, not an object with fields"}},
		"other versions":      {"apiVersion: unknown.example/v9\nkind: Thing\n", []string{"document 1 (line 1) unknown.example/v9 Thing <nil>"}},
	} {
		t.Run(name, func(t *testing.T) {
			objects, errs := Parse("f", []byte(test.content))
			if diff := cmp.Diff(test.want, summary(objects, errs)); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}

// TestParseIsBounded: neither many documents nor deep ones nor aliases of aliases take more than they hold.
func TestParseIsBounded(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", 'b'+i, 'b'+i, strings.Repeat(fmt.Sprintf("*%c,", 'a'+i), 10))
	}
	for name, test := range map[string]struct {
		content string
		objects int
	}{
		"aliases of aliases": {bomb, 0},
		"deep YAML":          {strings.Repeat("[", 100_000), 0},
		"deep JSON":          {strings.Repeat(`{"a":`, 100_000), 0},
		"many documents":     {strings.Repeat("{}\n", 2*maxDocuments), maxDocuments},
		"many items":         {"kind: List\nitems: [" + strings.Repeat("{},", 2*maxDocuments) + "]", maxDocuments},
	} {
		t.Run(name, func(t *testing.T) {
			objects, errs := Parse("f", []byte(test.content))
			if len(objects) != test.objects || len(errs) == 0 {
				t.Errorf("%d objects and %d errors, want %d objects and an error", len(objects), len(errs), test.objects)
			}
		})
	}
}

// FuzzParse: whatever is read, nothing panics, and documents have their number and line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "---", "kind: A\n---\nkind: B", "{}{}", "{\"a\":1}\n{", "--- {a: b}\n...\n%YAML 1.1\n---\n- a", "kind: List\nitems: [{}, [], null]",
		"a: &a [*a]", "\ufeffkind: A", "kind: XList\nitems: [{kind: List, items: []}]", "{{ template }}", "\u2028---\r---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		objects, errs := Parse("f", content)
		lines := 1
		for at := 0; at < len(content); lines++ {
			_, at = lineEnd(content, at)
		}
		check := func(p Place) {
			if p.Document < 1 || p.Line < 1 || p.Line > lines {
				t.Errorf("place %q of %d lines", p, lines)
			}
		}
		for _, o := range objects {
			if o.Content == nil {
				t.Error("an object without content")
			}
			check(o.Place)
		}
		for _, e := range errs {
			check(e.Place)
		}
	})
}
