package main

import (
	"fmt"
	"math"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// What is aimed at.
const (
	aimConditions = 0.3  // ms of CEL for an ordinary pod, by the API server's metric
	aimRatio      = 1.25 // of a call of ours to one of an empty webhook
	aimCPU        = 1.0  // ms of the operator's CPU for a call
	aimGrowth     = 1.1  // of that ratio, from the fewest licences to the most: flat
	aimRSS        = 150  // MB, with 10,000 licences and 100,000 grants
	aimRSSAt      = 10_000
)

// worst is the aim with the greatest figure among the sizes; figures that are NaN were not measured.
func worst(name, unit string, limit float64, sizes []sizeReport, figure func(s *sizeReport) (float64, string)) gauge.Aim {
	a := gauge.Aim{Name: name, Aim: &limit, Unit: unit}
	for i := range sizes {
		measured, note := figure(&sizes[i])
		if !math.IsNaN(measured) && (a.Measured == nil || measured > *a.Measured) {
			a.Measured, a.Note, a.Licenses = &measured, note, sizes[i].Licenses
		}
	}
	return a
}

func (s *sizeReport) variant(name string) *variantReport {
	for _, v := range s.Variants {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// compared are the calls that are compared with those of the empty webhook.
var compared = []struct{ variant, empty, our, theirs, name string }{
	{variantLicensed, variantEmpty, ourMutating, emptyMutating, "mutating call, licensed pod"},
	{variantLicensed, variantEmpty, ourValidating, emptyValidating, "validating call, licensed pod"},
	{variantLicenseStored, variantEmptyStored, ourMutating, emptyMutating, "mutating call, licensed pod that is stored"},
	{variantLicenseStored, variantEmptyStored, ourValidating, emptyValidating, "validating call, licensed pod that is stored"},
	{variantRefused, variantEmpty, ourMutating, emptyMutating, "mutating call, pod that is refused"},
	{variantRefused, variantEmpty, ourValidating, emptyValidating, "validating call, pod that is refused"},
}

// judge compares what was measured with what is aimed at.
func judge(sizes []sizeReport) []gauge.Aim {
	of := func(variant string, figure func(*variantReport) (float64, string)) func(*sizeReport) (float64, string) {
		return func(s *sizeReport) (float64, string) {
			if v := s.variant(variant); v != nil {
				return figure(v)
			}
			return math.NaN(), ""
		}
	}
	aims := []gauge.Aim{
		worst("webhook calls for pods without a model", "calls", 0, sizes, of(variantOrdinary, func(v *variantReport) (float64, string) {
			calls := v.OperatorCalls
			for _, name := range []string{ourMutating, ourValidating} {
				calls = max(calls, float64(v.Webhooks[name].Count))
			}
			return calls, fmt.Sprintf("of %d pods", v.Pods)
		})),
		worst("CEL for a pod without a model", "ms", aimConditions, sizes, of(variantOrdinary, func(v *variantReport) (float64, string) {
			if len(v.Conditions) == 0 {
				return math.NaN(), ""
			}
			return v.ConditionsPerPod, "all conditions of both webhooks together"
		})),
	}
	for _, c := range compared {
		aims = append(aims, worst(c.name+" / empty webhook", "x", aimRatio, sizes, func(s *sizeReport) (float64, string) {
			ratio, pooled := s.ratio(c.variant, c.our, c.empty, c.theirs)
			return ratio, fmt.Sprintf("median of rounds; all rounds together %.2f", pooled)
		}))
	}
	for _, name := range []string{variantLicensed, variantRefused} {
		aims = append(aims, worst("operator's CPU for a call, "+name, "ms", aimCPU, sizes, of(name, func(v *variantReport) (float64, string) {
			if v.OperatorCalls == 0 {
				return math.NaN(), ""
			}
			return v.OperatorCPUPerCall, fmt.Sprintf("%.0f calls", v.OperatorCalls)
		})))
	}
	for _, c := range compared[:2] {
		aims = append(aims, growth(c.name+", most licences / fewest", sizes, func(s *sizeReport) float64 {
			ratio, _ := s.ratio(c.variant, c.our, c.empty, c.theirs)
			return ratio
		}))
	}
	return append(aims, worst("operator's resident memory, 10,000 licences", "MB", aimRSS, sizes, func(s *sizeReport) (float64, string) {
		if s.Licenses < aimRSSAt {
			return math.NaN(), ""
		}
		return s.Memory.RSS * (1 << 20) / 1e6, fmt.Sprintf("%d grants; peak %.0f MB", s.Grants, s.Memory.PeakRSS*(1<<20)/1e6)
	}))
}

// ratio is callRatio of two variants of a size.
func (s *sizeReport) ratio(ours, our, empty, theirs string) (median, pooled float64) {
	a, b := s.variant(ours), s.variant(empty)
	if a == nil || b == nil {
		return math.NaN(), math.NaN()
	}
	return callRatio(a, our, b, theirs)
}

// growth compares a figure at the most licences with that at the fewest.
func growth(name string, sizes []sizeReport, figure func(*sizeReport) float64) gauge.Aim {
	limit := aimGrowth
	a := gauge.Aim{Name: name, Aim: &limit, Unit: "x"}
	if len(sizes) < 2 {
		return a
	}
	first, last := figure(&sizes[0]), figure(&sizes[len(sizes)-1])
	if grown := last / first; !math.IsNaN(grown) {
		a.Measured, a.Licenses = &grown, sizes[len(sizes)-1].Licenses
		a.Note = fmt.Sprintf("of the ratio to the empty webhook: %.2f, then %.2f", first, last)
	}
	return a
}
