package plugin

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestPrintError: several errors have a line each, and what wraps them is not lost.
func TestPrintError(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	tests := map[string]struct {
		err  error
		want string
	}{
		"one":           {first, "error: first\n"},
		"several":       {errors.Join(first, second), "error: first\nerror: second\n"},
		"several again": {errors.Join(errors.Join(first), second), "error: first\nerror: second\n"},
		"wrapped":       {fmt.Errorf("reading table.yaml: %w", errors.Join(first)), "error: reading table.yaml: first\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if printError(&out, tc.err); out.String() != tc.want {
				t.Errorf("got %q, want %q", out.String(), tc.want)
			}
		})
	}
}

func TestCopyIsTold(t *testing.T) {
	var out strings.Builder
	p := &explanationPrinter{w: &out}
	p.admission(&Admission{Copy: &Condition{Status: "True", Reason: "CopyDetected", Message: "container main runs a copy"}})
	if text := out.String(); !strings.Contains(text, "Copy:") || !strings.Contains(text, "CopyDetected") || !strings.Contains(text, "runs a copy") {
		t.Errorf("got %s", text)
	}
}
