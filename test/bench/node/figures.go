package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// percentiles are of N samples, in milliseconds, each a sample itself (nearest rank).
type percentiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentilesOf(samples []time.Duration) percentiles {
	if len(samples) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(sorted)))) - 1
		return float64(sorted[max(i, 0)].Microseconds()) / 1000
	}
	return percentiles{N: len(sorted), P50: at(.5), P90: at(.9), P99: at(.99), Max: at(1)}
}

// loadAverages are those of the machine; empty where they cannot be read.
func loadAverages() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
