package main

import (
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var samples []time.Duration
	for i := 200; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	tests := map[string]struct {
		samples []time.Duration
		want    percentiles
	}{
		"none": {nil, percentiles{}},
		"one":  {samples[:1], percentiles{N: 1, P50: 200, P90: 200, P99: 200, Max: 200}},
		"many": {samples, percentiles{N: 200, P50: 100, P90: 180, P99: 198, Max: 200}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := percentilesOf(test.samples); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}
