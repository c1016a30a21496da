package gauge

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Two has two decimals.
func Two(f float64) string { return fmt.Sprintf("%.2f", f) }

// Three has three decimals.
func Three(f float64) string { return fmt.Sprintf("%.3f", f) }

// Table lines columns up.
type Table struct{ *tabwriter.Writer }

// NewTable begins one with a row of heads. Flush ends it.
func NewTable(w io.Writer, heads ...string) *Table {
	t := &Table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.Row(heads...)
	return t
}

// Row adds one.
func (t *Table) Row(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
