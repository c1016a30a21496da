package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// wrong is a value that the API server must refuse. It is set at the path, whose parts are field names and list indices;
// a nil value removes the field.
type wrong struct {
	path  []any
	value any
	says  []string // parts of the message: the field, and what to do
}

func at(path ...any) []any { return path }

// changed is a copy of an object with one value set or removed.
func changed(object client.Object, path []any, value any) *unstructured.Unstructured {
	GinkgoHelper()
	encoded, err := json.Marshal(object)
	Expect(err).NotTo(HaveOccurred())
	var content map[string]any
	Expect(json.Unmarshal(encoded, &content)).To(Succeed())
	delete(content, "status")
	var parent any = content
	for i, part := range path {
		last := i == len(path)-1
		switch key := part.(type) {
		case string:
			fields := parent.(map[string]any)
			switch {
			case last && value == nil:
				delete(fields, key)
			case last:
				fields[key] = normal(value)
			default:
				parent = fields[key]
			}
		case int:
			if last {
				parent.([]any)[key] = normal(value)
			} else {
				parent = parent.([]any)[key]
			}
		}
	}
	return &unstructured.Unstructured{Object: content}
}

// normal is the value as JSON has it.
func normal(value any) any {
	GinkgoHelper()
	encoded, err := json.Marshal(value)
	Expect(err).NotTo(HaveOccurred())
	var decoded any
	Expect(json.Unmarshal(encoded, &decoded)).To(Succeed())
	return decoded
}

func many[T any](n int, item func(int) T) []T {
	var all []T
	for i := range n {
		all = append(all, item(i))
	}
	return all
}

// selectorCases are the wrong values of a label selector at a path.
func selectorCases(name string, path ...any) map[string]wrong {
	type m = map[string]any
	expression := func(key, operator string, values ...string) m {
		e := m{"key": key, "operator": operator}
		if len(values) > 0 {
			e["values"] = values
		}
		return m{"matchExpressions": []m{e}}
	}
	field := func(parts ...string) []string {
		return append([]string{strings.TrimPrefix(fmt.Sprint(path[len(path)-1]), ".")}, parts...)
	}
	labels := func(n int) m {
		all := m{}
		for i := range n {
			all[fmt.Sprintf("label-%d", i)] = "a"
		}
		return all
	}
	expressions := func(n int) []m {
		return many(n, func(i int) m { return m{"key": fmt.Sprintf("label-%d", i), "operator": "Exists"} })
	}
	values := func(n int) []string { return many(n, func(i int) string { return fmt.Sprintf("value-%d", i) }) }
	return map[string]wrong{
		name + ", too many labels":      {path, m{"matchLabels": labels(17)}, field("matchLabels", "at most 16")},
		name + ", too many expressions": {path, m{"matchExpressions": expressions(17)}, field("matchExpressions", "at most 16 items")},
		name + ", too many values":      {path, expression("a", "In", values(65)...), field("matchExpressions[0].values", "at most 64 items")},
		name + ", label key":            {path, m{"matchLabels": m{"-a": "b"}}, field("matchLabels must have keys as labels have them")},
		name + ", label key's prefix":   {path, m{"matchLabels": m{"Example.com/a": "b"}}, field("matchLabels must have keys as labels have them")},
		name + ", label key's length":   {path, m{"matchLabels": m{strings.Repeat("a", 64): "b"}}, field("matchLabels must have keys as labels have them")},
		name + ", label value":          {path, m{"matchLabels": m{"a": "b c"}}, field("matchLabels must have values as labels have them")},
		name + ", label value's length": {path, m{"matchLabels": m{"a": strings.Repeat("b", 64)}}, field("matchLabels.a", "63")},
		name + ", key":                  {path, expression("a/b/c", "Exists"), field("matchExpressions[].key must be as labels' keys are")},
		name + ", key empty":            {path, expression("", "Exists"), field("matchExpressions[].key must be as labels' keys are")},
		name + ", key's length":         {path, expression(strings.Repeat("a", 318), "Exists"), field("matchExpressions[0].key", "317")},
		name + ", value":                {path, expression("a", "In", "b", "*"), field("matchExpressions[].values must be as labels' values are")},
		name + ", value's length":       {path, expression("a", "NotIn", strings.Repeat("b", 64)), field("matchExpressions[0].values[0]", "63")},
		name + ", type":                 {path, "all", field("object")},
		name + ", operator":             {path, expression("a", "Near", "b"), field("matchExpressions[].operator must be In, NotIn, Exists or DoesNotExist")},
		name + ", operator missing":     {path, m{"matchExpressions": []m{{"key": "a"}}}, field("matchExpressions[0].operator: Required")},
		name + ", key missing":          {path, m{"matchExpressions": []m{{"operator": "Exists"}}}, field("matchExpressions[0].key: Required")},
		name + ", In without values":    {path, expression("a", "In"), field("matchExpressions[].values must be given for the operators In and NotIn")},
		name + ", Exists with one":      {path, expression("a", "Exists", "b"), field("left out for Exists and DoesNotExist")},
		name + ", label value type":     {path, m{"matchLabels": m{"a": 1}}, field("matchLabels.a", "must be of type string")},
	}
}

// condition is a condition that the API server accepts.
func condition(name string) map[string]any {
	return map[string]any{"type": name, "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-12-01T12:00:00Z"}
}

// withoutConditions leaves out the fields of metav1.Condition, which are Kubernetes' own.
func withoutConditions(fields []string) []string {
	return slices.DeleteFunc(fields, func(field string) bool {
		return slices.Contains([]string{"type", "status", "reason", "message", "lastTransitionTime"}, field)
	})
}

// fieldsOf are the names of all fields in the spec or the status of a kind, as its CRD on the API server has them. Fields
// that Kubernetes defines, in label selectors, count too.
func fieldsOf(crd, part string) []string {
	GinkgoHelper()
	definition := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}}
	Expect(k8sClient.Get(GinkgoT().Context(), client.ObjectKey{Name: crd}, definition)).To(Succeed())
	versions, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
	Expect(err).NotTo(HaveOccurred())
	var names []string
	var walk func(schema map[string]any)
	walk = func(schema map[string]any) {
		if items, ok := schema["items"].(map[string]any); ok {
			walk(items)
		}
		properties, _ := schema["properties"].(map[string]any)
		for name, property := range properties {
			names = append(names, name)
			walk(property.(map[string]any))
		}
	}
	spec, found, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties", part)
	Expect(err).NotTo(HaveOccurred())
	Expect(found).To(BeTrue())
	walk(spec)
	Expect(names).NotTo(BeEmpty())
	return names
}
