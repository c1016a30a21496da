package chart

import (
	"encoding/json"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestValuesAreDescribed: every value has a description in the schema, every object refuses unknown names unless it is
// Kubernetes' own, and values.yaml has exactly the values that the schema describes.
func TestValuesAreDescribed(t *testing.T) {
	var schema, values map[string]any
	content, err := os.ReadFile(chartPath + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(chartPath + "/values.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &values); err != nil {
		t.Fatal(err)
	}
	properties, _ := schema["properties"].(map[string]any)
	delete(properties, "global") // Helm's, not ours.
	if schema["additionalProperties"] != false {
		t.Error("the schema accepts unknown values")
	}
	compare(t, "", properties, values)
}

func compare(t *testing.T, path string, properties, values map[string]any) {
	t.Helper()
	for name := range values {
		if _, ok := properties[name]; !ok {
			t.Errorf("%s/%s is in values.yaml and not in the schema", path, name)
		}
	}
	for name, property := range properties {
		described, _ := property.(map[string]any)
		if text, _ := described["description"].(string); text == "" {
			t.Errorf("%s/%s has no description", path, name)
		}
		value, ok := values[name]
		if !ok {
			t.Errorf("%s/%s is in the schema and not in values.yaml", path, name)
			continue
		}
		inner, nested := described["properties"].(map[string]any)
		if !nested {
			continue
		}
		if described["additionalProperties"] != false {
			t.Errorf("%s/%s accepts unknown values", path, name)
		}
		if chosen, _ := value.(map[string]any); len(chosen) > 0 {
			compare(t, path+"/"+name, inner, chosen)
		}
	}
}
