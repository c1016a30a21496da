// Command crdbounds bounds the label selectors in generated CustomResourceDefinitions. Their Go type is Kubernetes' own,
// which has no bounds, and controller-gen's markers do not reach into it; without bounds the API server finds rules about
// keys and values too costly.
//
//	crdbounds config/crd/bases
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

const (
	maxRequirements = 16
	maxValues       = 64
	maxKeyLength    = 317 // a DNS name of 253 characters, '/', and a name of 63
	maxValueLength  = 63
)

// schema is a part of an OpenAPI schema as YAML has it.
type schema = map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: crdbounds DIRECTORY")
		os.Exit(2)
	}
	if err := boundAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "crdbounds:", err)
		os.Exit(1)
	}
}

// boundAll rewrites the definitions of a directory that have selectors. That there is none is an error: the schemas look
// different from what this command knows, and would stay unbounded.
func boundAll(directory string) error {
	paths, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		return err
	}
	found := 0
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		bounded, n, err := bound(content)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if n == 0 {
			continue
		}
		found += n
		if err := os.WriteFile(path, bounded, 0o644); err != nil {
			return err
		}
	}
	if found == 0 {
		return fmt.Errorf("no label selector in %s", directory)
	}
	return nil
}

// bound returns the definition with bounds, and how many selectors it has.
func bound(content []byte) ([]byte, int, error) {
	var definition schema
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return nil, 0, err
	}
	n := walk(definition)
	bounded, err := yaml.Marshal(definition)
	if err != nil {
		return nil, 0, err
	}
	return append([]byte("---\n"), bounded...), n, nil
}

func walk(node any) int {
	n := 0
	switch node := node.(type) {
	case schema:
		if boundSelector(node) {
			return 1
		}
		for _, child := range node {
			n += walk(child)
		}
	case []any:
		for _, child := range node {
			n += walk(child)
		}
	}
	return n
}

// boundSelector says whether the schema is that of a metav1.LabelSelector, and bounds it then.
func boundSelector(node schema) bool {
	properties, _ := node["properties"].(schema)
	labels, _ := properties["matchLabels"].(schema)
	value, _ := labels["additionalProperties"].(schema)
	expressions, _ := properties["matchExpressions"].(schema)
	items, _ := expressions["items"].(schema)
	fields, _ := items["properties"].(schema)
	key, _ := fields["key"].(schema)
	values, _ := fields["values"].(schema)
	oneValue, _ := values["items"].(schema)
	if value == nil || key == nil || oneValue == nil {
		return false
	}
	labels["maxProperties"] = maxRequirements
	value["maxLength"] = maxValueLength
	expressions["maxItems"] = maxRequirements
	key["maxLength"] = maxKeyLength
	values["maxItems"] = maxValues
	oneValue["maxLength"] = maxValueLength
	return true
}
