package gauge

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	limit := 2.0
	for name, tc := range map[string]struct {
		aim  Aim
		want string
	}{
		"as much as may be":            {AtMost("a", "", 2, 2, ""), "met"},
		"more than may be":             {AtMost("a", "", 2, 2.01, ""), "missed"},
		"as much as must be":           {AtLeast("a", "", 2, 2, ""), "met"},
		"less than must be":            {AtLeast("a", "", 2, 1.99, ""), "missed"},
		"measured at full size":        {AtMost("a", "", 2, 1, "").JudgedIf(true), "met"},
		"missed, but of a small run":   {AtMost("a", "", 2, 3, "").JudgedIf(false), "not judged"},
		"met, but of a small run":      {AtMost("a", "", 2, 1, "").JudgedIf(false), "not judged"},
		"nothing was measured":         {Aim{Name: "a", Aim: &limit}, "not measured"},
		"a figure without an aim":      {Figure("a", "", 2, ""), "no aim"},
		"a figure of a run that small": {Figure("a", "", 2, "").JudgedIf(false), "no aim"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.aim.Verdict(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			encoded, err := json.Marshal([]Aim{tc.aim})
			if err != nil || !strings.Contains(string(encoded), `"verdict":"`+tc.want+`"`) || !strings.Contains(string(encoded), `"name":"a"`) {
				t.Errorf("in JSON: %s, %v", encoded, err)
			}
		})
	}
}

func TestPrintAims(t *testing.T) {
	var full, small strings.Builder
	if err := PrintAims(&full, []Aim{AtMost("writes", "", 2, 2.25, "of some"), Figure("p99", "ms", 12344.5, "")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"writes", "≤ 2", "2.25", "MISSED", "of some", "12344 ms", "NO AIM"} {
		if !strings.Contains(full.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, full.String())
		}
	}
	if strings.Contains(full.String(), "NOT JUDGED") {
		t.Errorf("a full run is judged:\n%s", full.String())
	}
	if err := PrintAims(&small, []Aim{AtLeast("seats", "/s", 300, 400, "").JudgedIf(false)}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(small.String(), "≥ 300 /s") || strings.Contains(small.String(), "MET") || !strings.Contains(small.String(), "NOT JUDGED: less was measured") {
		t.Errorf("a small run:\n%s", small.String())
	}
}
