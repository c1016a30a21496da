package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// print writes the report as tables.
func (r *report) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "admission: %d × %s, %s/%s, Linux %s, %s, Kubernetes %s; load averages before: %s\n",
		m.CPUs, m.CPU, m.GOOS, m.GOARCH, m.Kernel, m.Go, m.Kubernetes, m.LoadBefore)
	fmt.Fprintf(w, "%g pods/s in an open loop, %d slices of %d pods for each variant and size, interleaved (seed %d); %.0f s in all\n",
		r.Plan.Rate, r.Plan.Slices, r.Plan.Pods, r.Plan.Seed, r.Seconds)
	for i := range r.Sizes {
		if err := r.Sizes[i].print(w); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "\nAims")
	t := newTable(w, "", "aim", "measured", "", "worst at", "")
	for i := range r.Aims {
		a := &r.Aims[i]
		measured, at := "-", ""
		if a.Measured != nil {
			measured = fmt.Sprintf("%.3g %s", *a.Measured, a.Unit)
			at = fmt.Sprintf("%d licences", a.Licenses)
		}
		t.row(a.Name, fmt.Sprintf("≤ %g %s", a.Aim, a.Unit), measured, strings.ToUpper(a.verdict()), at, a.Note)
	}
	return t.Flush()
}

func (s *sizeReport) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d licences, %d grants: written in %.1f s; measured for %.0f s, while others kept %.2f CPUs busy (load averages then: %s)\n",
		s.Licenses, s.Grants, s.SeedSeconds, s.MeasureSeconds, s.ForeignCPUs, s.Load)
	fmt.Fprintf(w, "operator: ready after %.1f s, at rest after %.1f s; %.0f MiB resident, %.0f MiB at most, %.0f MiB of heap in use\n",
		s.ReadySeconds, s.SettleSeconds, s.Memory.RSS, s.Memory.PeakRSS, s.Memory.HeapLive)
	fmt.Fprintln(w)
	t := newTable(w, "client, ms", "p50", "p90", "p99", "max", "late p99", "pods/s", "operator CPU ms/pod", "ms/call")
	for _, v := range s.Variants {
		perCall := "-"
		if v.OperatorCalls > 0 {
			perCall = fmt.Sprintf("%.2f", v.OperatorCPUPerCall)
		}
		t.row(v.Name, two(v.Client.P50), two(v.Client.P90), two(v.Client.P99), two(v.Client.Max), two(v.LateP99),
			fmt.Sprintf("%.1f", v.PodsPerSecond), two(v.OperatorCPUPerPod), perCall)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "API server, ms/pod", "admit", "validate", "mutating webhooks", "validating webhooks", "policies", "matchConditions")
	for _, v := range s.Variants {
		t.row(v.Name, three(v.Steps["admit"].Mean), three(v.Steps["validate"].Mean), three(v.Plugins["MutatingAdmissionWebhook"].Mean),
			three(v.Plugins["ValidatingAdmissionWebhook"].Mean), three(v.Plugins["ValidatingAdmissionPolicy"].Mean), three(v.ConditionsPerPod))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "API server, calls", "of", "count", "mean ms", "p50 ≤ ms", "p99 ≤ ms", "/ empty: median of rounds", "all")
	for _, v := range s.Variants {
		for _, name := range slices.Sorted(maps.Keys(v.Webhooks)) {
			median, all := s.comparison(v.Name, name)
			t.perCall(v.Name, name, v.Webhooks[name], median, all)
		}
		for _, name := range slices.Sorted(maps.Keys(v.Conditions)) {
			t.perCall(v.Name, "CEL of "+name, v.Conditions[name], "", "")
		}
		if v.Policy != nil {
			t.perCall(v.Name, "policy", *v.Policy, "", "")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.NotMeasured)) {
		fmt.Fprintf(w, "%s was not measured: %s\n", name, s.NotMeasured[name])
	}
	return nil
}

// comparison is the ratio of a webhook's calls to those of the empty webhook, in words.
func (s *sizeReport) comparison(variant, webhook string) (median, all string) {
	for _, c := range compared {
		if c.variant == variant && c.our == webhook {
			m, a := s.ratio(c.variant, c.our, c.empty, c.theirs)
			return two(m), two(a)
		}
	}
	return "", ""
}

func two(f float64) string   { return fmt.Sprintf("%.2f", f) }
func three(f float64) string { return fmt.Sprintf("%.3f", f) }

// table lines columns up.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, heads ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(heads...)
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }

func (t *table) perCall(variant, name string, c perCall, median, all string) {
	bound := func(b float64) string {
		if b < 0 {
			return "beyond"
		}
		return fmt.Sprintf("%g", b)
	}
	t.row(variant, name, fmt.Sprint(c.Count), three(c.Mean), bound(c.P50AtMost), bound(c.P99AtMost), median, all)
}
