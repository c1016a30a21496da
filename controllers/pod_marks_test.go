package controllers

import (
	"slices"
	"testing"
)

// TestMarks: what is said to people and what was logged come back as they were, whatever is said.
func TestMarks(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		marks marks
	}{
		"none":                  {"position 1 of 3", nil},
		"some":                  {"licence chat by grant chat", marks{markOf("a"), markOf("b")}},
		"a reason in brackets":  {"not entitled [NoGrant]: namespace ml has no grant", marks{markOf("a")}},
		"ends with brackets":    {"not entitled [NoGrant, Expired]", nil},
		"brackets before marks": {"not entitled [NoGrant]", marks{markOf("a")}},
		"nothing said":          {"", marks{markOf("a")}},
	} {
		t.Run(name, func(t *testing.T) {
			text, m := splitMarks(test.text + test.marks.String())
			if text != test.text || !slices.Equal(m, test.marks) {
				t.Errorf("got %q and %v", text, m)
			}
		})
	}
}
