package main

import (
	"strings"
	"testing"

	"modelrights.dev/modelrights/test/bench/gauge"
)

func TestCompare(t *testing.T) {
	all := []allocation{
		{SeatsPerSecond: 50},
		{SeatsPerSecond: 400, Without: true}, {SeatsPerSecond: 150}, {SeatsPerSecond: 600, Without: true},
		{SeatsPerSecond: 100, Without: true}, {SeatsPerSecond: 100}, {SeatsPerSecond: 100, Without: true},
		{SeatsPerSecond: 70}, {SeatsPerSecond: 70}, // one side alone is no comparison
	}
	compare(all)
	for i, want := range []float64{0, 0, 0.3, 0, 0, 1, 0, 0, 0} {
		if got := all[i].OfWithout; got != want {
			t.Errorf("run %d has %v of what is without modelrights, want %v", i, got, want)
		}
	}
}

// measured is a report in which every aim is met.
func measured(p plan) *report {
	good := func(about string) allocation {
		return allocation{About: about, Pods: 5000, SeatsPerSecond: 310, WritesPerPod: 1.9, Latency: gauge.Latencies{P99: 900}}
	}
	loads := []load{{Name: "at rest"}, {Name: "churn"}, {Name: "renewals", Renewals: &renewals{Renewed: 100}}}
	for i := range loads {
		loads[i].MostRSS = 300
	}
	return &report{
		Plan:        p,
		Allocations: []allocation{good("steady"), {About: "without", Without: true}, good("burst"), good("queued")},
		Scale:       &scaleReport{ReadySeconds: 3, Loads: loads},
	}
}

func TestJudge(t *testing.T) {
	small, fewPods := short(), full()
	fewPods.Burst = 100
	for name, tc := range map[string]struct {
		plan plan
		harm func(*report)
		// missed are what the aims begin with that are missed; all others that are judged are met.
		missed          []string
		judged          bool
		burstsNotJudged bool
	}{
		"all is well": {plan: full(), judged: true},
		"slow":        {plan: full(), judged: true, harm: func(r *report) { r.Allocations[2].SeatsPerSecond = 299 }, missed: []string{"seats a second: burst"}},
		"many writes": {plan: full(), judged: true, harm: func(r *report) { r.Allocations[0].WritesPerPod = 2.01 }, missed: []string{"API writes for a pod: steady"}},
		"much memory": {plan: full(), judged: true, harm: func(r *report) { r.Scale.Loads[1].MostRSS = 382 }, missed: []string{"resident memory: churn"}},
		"slow start":  {plan: full(), judged: true, harm: func(r *report) { r.Scale.ReadySeconds = 21 }, missed: []string{"from restart to ready"}},
		"refused":     {plan: full(), judged: true, harm: func(r *report) { r.Scale.Loads[2].Renewals.TooMany = 1 }, missed: []string{"leases that were not renewed"}},
		"a small run": {plan: small, harm: func(r *report) { r.Allocations[2].SeatsPerSecond = 1 }},
		"a small run's renewals are judged all the same": {plan: small, harm: func(r *report) { r.Scale.Loads[2].Renewals.Failed = 1 }, missed: []string{"leases that were not renewed"}},
		"few pods at once, but all that is held":         {plan: fewPods, judged: true, burstsNotJudged: true, harm: func(r *report) { r.Allocations[2].SeatsPerSecond = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			r := measured(tc.plan)
			if tc.harm != nil {
				tc.harm(r)
			}
			missed := tc.missed
			for _, a := range judge(r) {
				want := "met"
				switch {
				case len(missed) > 0 && strings.HasPrefix(a.Name, missed[0]):
					want, missed = "missed", missed[1:]
				case strings.HasPrefix(a.Name, "p99") || strings.Contains(a.Name, "while it starts"):
					want = "no aim"
				case strings.HasPrefix(a.Name, "leases"):
				case !tc.judged, tc.burstsNotJudged && (strings.HasPrefix(a.Name, "seats") || strings.HasPrefix(a.Name, "API writes")):
					want = "not judged"
				}
				if got := a.Verdict(); got != want {
					t.Errorf("%s: %s, want %s", a.Name, got, want)
				}
			}
			if len(missed) > 0 {
				t.Errorf("there is no aim %v", missed)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	r := measured(full())
	compare(r.Allocations)
	r.Aims = judge(r)
	var text strings.Builder
	if err := r.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"of without", "API server", "etcd", "busy of", "renewals", "MET", "p99 until ungated: burst"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables do not say %q:\n%s", want, &text)
		}
	}
}
