package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const withSelector = `---
spec:
  versions:
  - schema:
      properties:
        selector:
          properties:
            matchExpressions:
              items:
                properties:
                  key: {type: string}
                  operator: {type: string}
                  values: {items: {type: string}, type: array}
              type: array
            matchLabels: {additionalProperties: {type: string}, type: object}
`

func TestBound(t *testing.T) {
	bounded, n, err := bound([]byte(withSelector))
	if err != nil || n != 1 {
		t.Fatalf("%d selectors found, error %v", n, err)
	}
	for text, times := range map[string]int{"maxItems: 16": 1, "maxItems: 64": 1, "maxProperties: 16": 1, "maxLength: 63": 2, "maxLength: 317": 1} {
		if got := strings.Count(string(bounded), text); got != times {
			t.Errorf("%q occurs %d times, want %d, in\n%s", text, got, times, bounded)
		}
	}
	again, _, err := bound(bounded)
	if err != nil || string(again) != string(bounded) {
		t.Errorf("bounding twice changes something: %v\n%s", err, again)
	}
}

func TestNoSelector(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "a.yaml"), []byte(strings.ReplaceAll(withSelector, "matchLabels", "labels")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := boundAll(directory); err == nil {
		t.Error("a schema that is not understood stays unbounded, and nobody is told")
	}
}
