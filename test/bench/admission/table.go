package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// print writes the report as tables.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "admission: %v\n", &r.Machine)
	fmt.Fprintf(w, "%g pods/s in an open loop, %d slices of %d pods for each variant and size, interleaved (seed %d); %.0f s in all\n",
		r.Plan.Rate, r.Plan.Slices, r.Plan.Pods, r.Plan.Seed, r.Seconds)
	for i := range r.Sizes {
		if err := r.Sizes[i].print(w); err != nil {
			return err
		}
	}
	return gauge.PrintAims(w, r.Aims)
}

func (s *sizeReport) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d licences, %d grants: written in %.1f s; measured for %.0f s, while others kept %.2f CPUs busy (load averages then: %s)\n",
		s.Licenses, s.Grants, s.SeedSeconds, s.MeasureSeconds, s.ForeignCPUs, s.Load)
	fmt.Fprintf(w, "operator: ready after %.1f s, at rest after %.1f s; %.0f MiB resident, %.0f MiB at most, %.0f MiB of heap in use\n",
		s.ReadySeconds, s.SettleSeconds, s.Memory.RSS, s.Memory.PeakRSS, s.Memory.HeapLive)
	fmt.Fprintln(w)
	t := gauge.NewTable(w, "client, ms", "p50", "p90", "p99", "max", "late p99", "pods/s", "operator CPU ms/pod", "ms/call")
	for _, v := range s.Variants {
		perCall := "-"
		if v.OperatorCalls > 0 {
			perCall = fmt.Sprintf("%.2f", v.OperatorCPUPerCall)
		}
		t.Row(v.Name, gauge.Two(v.Client.P50), gauge.Two(v.Client.P90), gauge.Two(v.Client.P99), gauge.Two(v.Client.Max), gauge.Two(v.LateP99),
			fmt.Sprintf("%.1f", v.PodsPerSecond), gauge.Two(v.OperatorCPUPerPod), perCall)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = gauge.NewTable(w, "API server, ms/pod", "admit", "validate", "mutating webhooks", "validating webhooks", "policies", "matchConditions")
	for _, v := range s.Variants {
		t.Row(v.Name, gauge.Three(v.Steps["admit"].Mean), gauge.Three(v.Steps["validate"].Mean), gauge.Three(v.Plugins["MutatingAdmissionWebhook"].Mean),
			gauge.Three(v.Plugins["ValidatingAdmissionWebhook"].Mean), gauge.Three(v.Plugins["ValidatingAdmissionPolicy"].Mean), gauge.Three(v.ConditionsPerPod))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = gauge.NewTable(w, "API server, calls", "of", "count", "mean ms", "p50 ≤ ms", "p99 ≤ ms", "/ empty: median of rounds", "all")
	for _, v := range s.Variants {
		for _, name := range slices.Sorted(maps.Keys(v.Webhooks)) {
			median, all := s.comparison(v.Name, name)
			perCallRow(t, v.Name, name, v.Webhooks[name], median, all)
		}
		for _, name := range slices.Sorted(maps.Keys(v.Conditions)) {
			perCallRow(t, v.Name, "CEL of "+name, v.Conditions[name], "", "")
		}
		if v.Policy != nil {
			perCallRow(t, v.Name, "policy", *v.Policy, "", "")
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
			return gauge.Two(m), gauge.Two(a)
		}
	}
	return "", ""
}

func perCallRow(t *gauge.Table, variant, name string, c perCall, median, all string) {
	bound := func(b float64) string {
		if b < 0 {
			return "beyond"
		}
		return fmt.Sprintf("%g", b)
	}
	t.Row(variant, name, fmt.Sprint(c.Count), gauge.Three(c.Mean), bound(c.P50AtMost), bound(c.P99AtMost), median, all)
}
