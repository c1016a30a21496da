package main

import (
	"fmt"
	"time"

	"modelrights.dev/modelrights/test/bench/cluster"
)

// plan is how much is measured.
type plan struct {
	// Burst is how many pods of one licence are created at once.
	Burst int `json:"burst"`
	// Steady is how many are created one after another, SteadyRate how many a second.
	Steady     int     `json:"steady"`
	SteadyRate float64 `json:"steadyPerSecond"`
	// Licenses is how many licences there are while very many pods hold seats, Held how many pods do, on so many Nodes.
	Licenses int `json:"licenses"`
	Held     int `json:"held"`
	Nodes    int `json:"nodes"`
	// Each is how long the operator is watched at rest, under churn and under renewals.
	Each time.Duration `json:"each"`
	// ChurnRate is how many pods are created, and deleted, a second; RenewEvery is how often the lease of each pod is renewed:
	// as often as kubelet republishes volumes.
	ChurnRate  float64       `json:"churnPerSecond"`
	RenewEvery time.Duration `json:"renewEvery"`
}

// full ends in about ten minutes on two CPUs; short is for development.
func full() plan {
	return plan{
		Burst: 5_000, Steady: 1_000, SteadyRate: 50, Licenses: 10_000, Held: 50_000, Nodes: 500, Each: 30 * time.Second,
		ChurnRate: 50, RenewEvery: republish,
	}
}

func short() plan {
	return plan{
		Burst: 500, Steady: 100, SteadyRate: 50, Licenses: 1_000, Held: 5_000, Nodes: 50, Each: 10 * time.Second,
		ChurnRate: 50, RenewEvery: republish,
	}
}

// republish is how often kubelet asks the driver to publish a volume again, as measured on 1.36.
const republish = 76 * time.Second

// renewRate is how many renewals come a second.
func (p *plan) renewRate() float64 { return float64(p.Held) / p.RenewEvery.Seconds() }

// isFullBurst and isFullScale say whether at least as much is measured as full does, so that aims can be judged.
func (p *plan) isFullBurst() bool { return p.Burst >= full().Burst && p.Steady >= full().Steady }

func (p *plan) isFullScale() bool {
	f := full()
	return p.Licenses >= f.Licenses && p.Held >= f.Held && p.Each >= f.Each
}

// validate says what cannot be measured.
func (p *plan) validate() error {
	if p.Burst < 2 || p.Steady < 1 || p.Held < 1 || p.Nodes < 1 {
		return fmt.Errorf("nothing would be measured: %+v", *p)
	}
	if room := (p.Licenses - cluster.LicensesAtFirst) * heldPerLicense; p.Held > room {
		return fmt.Errorf("%d pods are too many for %d licences, which have room for %d", p.Held, p.Licenses, room)
	}
	return nil
}
