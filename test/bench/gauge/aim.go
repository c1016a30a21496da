package gauge

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
)

// Aim is what is aimed at and what was measured. In JSON it has its verdict too.
type Aim struct {
	Name string `json:"name"`
	// Aim and Measured are in the unit; Measured is absent where nothing was, Aim where none is set.
	Aim      *float64 `json:"aim,omitempty"`
	Measured *float64 `json:"measured"`
	Unit     string   `json:"unit"`
	// AtLeast says that more is better.
	AtLeast bool `json:"atLeast,omitempty"`
	// Licenses is the number at which the figure was the worst.
	Licenses int `json:"licenses,omitempty"`
	// Small says that less was measured than the aim is for, so that the figure is neither met nor missed.
	Small bool `json:"small,omitempty"`
	// Note says more.
	Note string `json:"note,omitempty"`
}

// AtMost and AtLeast compare a figure with what is aimed at.
func AtMost(name, unit string, limit, measured float64, note string) Aim {
	return Aim{Name: name, Aim: &limit, Unit: unit, Measured: &measured, Note: note}
}

// AtLeast is AtMost where more is better.
func AtLeast(name, unit string, limit, measured float64, note string) Aim {
	return Aim{Name: name, Aim: &limit, Unit: unit, Measured: &measured, AtLeast: true, Note: note}
}

// Figure is one for which no aim is set.
func Figure(name, unit string, measured float64, note string) Aim {
	return Aim{Name: name, Unit: unit, Measured: &measured, Note: note}
}

// JudgedIf is the aim, which is judged only if as much was measured as it is for.
func (a Aim) JudgedIf(full bool) Aim {
	a.Small = !full
	return a
}

// Met says whether the figure is as good as what is aimed at.
func (a *Aim) Met() bool {
	switch {
	case a.Measured == nil || a.Aim == nil:
		return false
	case a.AtLeast:
		return *a.Measured >= *a.Aim
	default:
		return *a.Measured <= *a.Aim
	}
}

// Verdict is "met", "missed", or why it is neither.
func (a *Aim) Verdict() string {
	switch {
	case a.Measured == nil:
		return "not measured"
	case a.Aim == nil:
		return "no aim"
	case a.Small:
		return "not judged"
	case a.Met():
		return "met"
	default:
		return "missed"
	}
}

// MarshalJSON adds the verdict.
func (a Aim) MarshalJSON() ([]byte, error) {
	type fields Aim
	return json.Marshal(struct {
		fields
		Verdict string `json:"verdict"`
	}{fields(a), a.Verdict()})
}

// brief has three digits, and no fewer than there are before the point.
func brief(f float64) string {
	if math.Abs(f) >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

// PrintAims writes a table of them.
func PrintAims(w io.Writer, aims []Aim) error {
	fmt.Fprintln(w, "\nAims")
	t := NewTable(w, "", "aim", "measured", "", "worst at", "")
	small := false
	for i := range aims {
		a := &aims[i]
		measured, at, aim := "-", "", "-"
		if a.Measured != nil {
			measured = strings.TrimSpace(brief(*a.Measured) + " " + a.Unit)
		}
		if a.Measured != nil && a.Licenses > 0 {
			at = fmt.Sprintf("%d licences", a.Licenses)
		}
		if a.Aim != nil {
			sign := "≤"
			if a.AtLeast {
				sign = "≥"
			}
			aim = strings.TrimSpace(fmt.Sprintf("%s %g %s", sign, *a.Aim, a.Unit))
		}
		small = small || a.Verdict() == "not judged"
		t.Row(a.Name, aim, measured, strings.ToUpper(a.Verdict()), at, a.Note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if small {
		fmt.Fprintln(w, "NOT JUDGED: less was measured than the aim is for.")
	}
	return nil
}
