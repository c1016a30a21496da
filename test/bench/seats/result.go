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
	for _, a := range r.Allocations[1:] { // the first is created no faster than 50 a second
		aims = append(aims, gauge.AtLeast("seats a second: "+a.About, "/s", aimSeats, a.SeatsPerSecond, fmt.Sprintf("%d pods of one licence", a.Pods)))
	}
	for _, a := range r.Allocations {
		aims = append(aims, gauge.AtMost("API writes for a pod: "+a.About, "", aimWrites, a.WritesPerPod, a.Writes.String()))
	}
	what := fmt.Sprintf("%d licences, %d grants, %d pods", r.Plan.Licenses, r.Plan.Licenses*cluster.GrantsPerLicense, r.Plan.Held)
	for _, l := range r.Scale.Loads {
		aims = append(aims, gauge.AtMost("resident memory: "+l.Name, "MB", aimRSS, max(l.Memory.RSS, l.MostRSS)*(1<<20)/1e6, what))
	}
	return append(aims, gauge.AtMost("from restart to ready", "s", aimReady, r.Scale.ReadySeconds, what))
}

// print writes the report as tables.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "seats: %v\n", &r.Machine)
	fmt.Fprintf(w, "%.0f s in all, while others kept %.2f CPUs busy\n\n", r.Seconds, r.ForeignCPUs)
	t := gauge.NewTable(w, "pods of one licence get seats; ms", "pods", "seats/s", "p50", "p90", "p99", "max", "operator CPU ms/pod", "writes/pod")
	for _, a := range r.Allocations {
		t.Row(a.About, fmt.Sprint(a.Pods), fmt.Sprintf("%.1f", a.SeatsPerSecond), gauge.Two(a.Latency.P50), gauge.Two(a.Latency.P90),
			gauge.Two(a.Latency.P99), gauge.Two(a.Latency.Max), gauge.Two(a.CPUPerPod), gauge.Two(a.WritesPerPod))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	s := r.Scale
	fmt.Fprintf(w, "\n%d licences, %d grants, %d pods on %d nodes: written in %.1f s; operator ready after %.1f s, at rest after %.1f s, when it had written %s\n",
		r.Plan.Licenses, r.Plan.Licenses*cluster.GrantsPerLicense, r.Plan.Held, r.Plan.Nodes, s.SeedSeconds, s.ReadySeconds, s.SettleSeconds, orNothing(s.StartWrites))
	fmt.Fprintf(w, "memory then: %.0f MiB resident, %.0f MiB at most, %.0f MiB of heap in use\n\n", s.AfterStart.RSS, s.AfterStart.PeakRSS, s.AfterStart.HeapLive)
	t = gauge.NewTable(w, "operator", "CPUs", "resident MiB", "at most", "heap in use", "requests", "p50 ms", "p99 ms", "", "")
	for _, l := range s.Loads {
		t.Row(l.Name, gauge.Two(l.CPUs), fmt.Sprintf("%.0f", l.Memory.RSS), fmt.Sprintf("%.0f", l.MostRSS), fmt.Sprintf("%.0f", l.Memory.HeapLive),
			fmt.Sprint(l.Requests), gauge.Two(l.Latency.P50), gauge.Two(l.Latency.P99), l.Note, "wrote "+orNothing(l.Writes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return gauge.PrintAims(w, r.Aims)
}

func orNothing(w written) string {
	if text := strings.TrimSpace(w.String()); text != "" {
		return text
	}
	return "nothing"
}
