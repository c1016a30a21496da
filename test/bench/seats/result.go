package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// What is aimed at.
const (
	aimSeats  = 300 // seats a second, on two CPUs that the API server shares
	aimWrites = 2   // of the operator for each pod that starts, its audit log apart
	aimRSS    = 400 // MB, with everything
	aimReady  = 20  // seconds from the start of the process
)

// report is what a run measured, and where.
type report struct {
	Machine gauge.Machine `json:"machine"`
	Plan    plan          `json:"plan"`
	Started time.Time     `json:"started"`
	// Seconds is how long the whole run took, ForeignCPUs how many CPUs others kept busy meanwhile.
	Seconds     float64      `json:"seconds"`
	ForeignCPUs float64      `json:"foreignCPUs"`
	Allocations []allocation `json:"allocations"`
	Scale       *scaleReport `json:"scale"`
	Aims        []gauge.Aim  `json:"aims"`
}

// judge compares what was measured with what is aimed at.
func judge(r *report) []gauge.Aim {
	var aims []gauge.Aim
	burst, scale := r.Plan.isFullBurst(), r.Plan.isFullScale()
	add := func(full bool, a gauge.Aim) { aims = append(aims, a.JudgedIf(full)) }
	var ours []allocation
	for _, a := range r.Allocations {
		if !a.Without {
			ours = append(ours, a)
		}
	}
	for _, a := range ours[1:] { // the first is created no faster than 50 a second
		add(burst, gauge.AtLeast("seats a second: "+a.About, "/s", aimSeats, a.SeatsPerSecond,
			fmt.Sprintf("%d pods of one licence; %.0f%% of what the API server does without modelrights", a.Pods, 100*a.OfWithout)))
	}
	for _, a := range ours {
		add(burst, gauge.Figure("p99 until ungated: "+a.About, "ms", a.Latency.P99, fmt.Sprintf("%d pods", a.Pods)))
	}
	for _, a := range ours {
		add(burst, gauge.AtMost("API writes for a pod: "+a.About, "", aimWrites, a.WritesPerPod, a.Writes.String()))
	}
	what := fmt.Sprintf("%d licences, %d grants, %d pods", r.Plan.Licenses, r.Plan.Licenses*cluster.GrantsPerLicense, r.Plan.Held)
	for _, l := range r.Scale.Loads {
		note := what
		if l.Renewals != nil && l.Renewals.notRenewed() > 0 {
			note = fmt.Sprintf("%s; %d leases were not renewed", what, l.Renewals.notRenewed())
		}
		add(scale, gauge.AtMost("resident memory: "+l.Name, "MB", aimRSS, max(l.Memory.RSS, l.MostRSS)*(1<<20)/1e6, note))
	}
	add(scale, gauge.Figure("resident memory: most while it starts", "MB", r.Scale.AfterStart.PeakRSS*(1<<20)/1e6, what))
	add(scale, gauge.AtMost("from restart to ready", "s", aimReady, r.Scale.ReadySeconds, what))
	for _, l := range r.Scale.Loads {
		if l.Renewals != nil {
			aims = append(aims, gauge.AtMost("leases that were not renewed", "", 0, float64(l.Renewals.notRenewed()), l.Renewals.String()))
		}
	}
	return aims
}

// print writes the report as tables.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "seats: %v\n", &r.Machine)
	fmt.Fprintf(w, "%.0f s in all, while others kept %.2f CPUs busy\n\n", r.Seconds, r.ForeignCPUs)
	for _, table := range []func(io.Writer) error{r.printAllocations, r.printCPUs, r.printScale} {
		if err := table(w); err != nil {
			return err
		}
	}
	if r.Scale.Failed != "" {
		fmt.Fprintf(w, "\nNOT ALL WAS MEASURED: %s\n", r.Scale.Failed)
	}
	return gauge.PrintAims(w, r.Aims)
}

func (r *report) printAllocations(w io.Writer) error {
	t := gauge.NewTable(w, "pods of one licence get seats; ms", "pods", "pods/s", "of without", "p50", "p90", "p99", "max", "operator CPU ms/pod", "writes/pod")
	for _, a := range r.Allocations {
		of := ""
		if a.OfWithout > 0 {
			of = fmt.Sprintf("%.0f%%", 100*a.OfWithout)
		}
		t.Row(a.About, fmt.Sprint(a.Pods), fmt.Sprintf("%.1f", a.SeatsPerSecond), of, gauge.Two(a.Latency.P50), gauge.Two(a.Latency.P90),
			gauge.Two(a.Latency.P99), gauge.Two(a.Latency.Max), gauge.Two(a.CPUPerPod), gauge.Two(a.WritesPerPod))
	}
	return t.Flush()
}

// printCPUs says where the machine's CPUs went.
func (r *report) printCPUs(w io.Writer) error {
	fmt.Fprintln(w)
	t := gauge.NewTable(w, "until the last was ungated; CPU ms/pod", cpuOperator, cpuServer, cpuStore, cpuBenchmark, fmt.Sprintf("busy of %d CPUs", r.Machine.CPUs), "others kept busy")
	for _, a := range r.Allocations {
		row := []string{a.About}
		for _, name := range []string{cpuOperator, cpuServer, cpuStore, cpuBenchmark} {
			row = append(row, gauge.Two(a.CPUs.Per(name, a.Pods)))
		}
		t.Row(append(row, gauge.Two(a.CPUs.Busy()), gauge.Two(a.CPUs.Foreign))...)
	}
	return t.Flush()
}

func (r *report) printScale(w io.Writer) error {
	s := r.Scale
	fmt.Fprintf(w, "\n%d licences, %d grants, %d pods on %d nodes: written in %.1f s; operator ready after %.1f s, at rest after %.1f s, when it had written %s\n",
		r.Plan.Licenses, r.Plan.Licenses*cluster.GrantsPerLicense, r.Plan.Held, r.Plan.Nodes, s.SeedSeconds, s.ReadySeconds, s.SettleSeconds, orNothing(s.StartWrites))
	fmt.Fprintf(w, "memory then: %.0f MiB resident, %.0f MiB at most, %.0f MiB of heap in use\n\n", s.AfterStart.RSS, s.AfterStart.PeakRSS, s.AfterStart.HeapLive)
	t := gauge.NewTable(w, "", "operator's CPUs", "API server's", "resident MiB", "at most", "heap in use", "requests", "p50 ms", "p99 ms", "", "")
	for _, l := range s.Loads {
		t.Row(l.Name, gauge.Two(l.CPUs.By[cpuOperator]), gauge.Two(l.CPUs.By[cpuServer]), fmt.Sprintf("%.0f", l.Memory.RSS), fmt.Sprintf("%.0f", l.MostRSS), fmt.Sprintf("%.0f", l.Memory.HeapLive),
			fmt.Sprint(l.Requests), gauge.Two(l.Latency.P50), gauge.Two(l.Latency.P99), l.Note, "wrote "+orNothing(l.Writes))
	}
	return t.Flush()
}

func orNothing(w written) string {
	if text := strings.TrimSpace(w.String()); text != "" {
		return text
	}
	return "nothing"
}
