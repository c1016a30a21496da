package gauge

import (
	"maps"
	"math"
	"testing"
)

const before = `# HELP apiserver_admission_webhook_admission_duration_seconds [STABLE] Admission webhook latency histogram in seconds
# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="0.005"} 8
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="0.025"} 10
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="+Inf"} 10
apiserver_admission_webhook_admission_duration_seconds_sum{name="a",operation="CREATE",rejected="false",type="admit"} 0.5
apiserver_admission_webhook_admission_duration_seconds_count{name="a",operation="CREATE",rejected="false",type="admit"} 10
# TYPE requests_total counter
requests_total{webhook="/a",code="200"} 3
requests_total{webhook="/a",code="500"} 1
requests_total{webhook="/b",code="200"} 7
`

const after = `# TYPE apiserver_admission_webhook_admission_duration_seconds histogram
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="0.005"} 97
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="0.025"} 109
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="false",type="admit",le="+Inf"} 110
apiserver_admission_webhook_admission_duration_seconds_sum{name="a",operation="CREATE",rejected="false",type="admit"} 1.5
apiserver_admission_webhook_admission_duration_seconds_count{name="a",operation="CREATE",rejected="false",type="admit"} 110
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="true",type="admit",le="0.005"} 5
apiserver_admission_webhook_admission_duration_seconds_bucket{name="a",operation="CREATE",rejected="true",type="admit",le="+Inf"} 5
apiserver_admission_webhook_admission_duration_seconds_sum{name="a",operation="CREATE",rejected="true",type="admit"} 0.01
apiserver_admission_webhook_admission_duration_seconds_count{name="a",operation="CREATE",rejected="true",type="admit"} 5
apiserver_admission_webhook_admission_duration_seconds_bucket{name="b",operation="CREATE",rejected="false",type="admit",le="+Inf"} 1000
apiserver_admission_webhook_admission_duration_seconds_sum{name="b",operation="CREATE",rejected="false",type="admit"} 1000
apiserver_admission_webhook_admission_duration_seconds_count{name="b",operation="CREATE",rejected="false",type="admit"} 1000
`

func scraped(t *testing.T, text string) Scrape {
	t.Helper()
	s, err := ParseMetrics(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHistogramDelta(t *testing.T) {
	const name = "apiserver_admission_webhook_admission_duration_seconds"
	with := Labels{"name": "a", "operation": "CREATE"}
	first, second := scraped(t, before).Histogram(name, with), scraped(t, after).Histogram(name, with)
	got, err := second.Since(first)
	if err != nil {
		t.Fatal(err)
	}
	// 100 that were let through and 5, of a series that was not there before, that were rejected.
	if got.Count != 105 || math.Abs(got.Sum-1.01) > 1e-9 || !maps.Equal(got.Buckets, map[float64]uint64{0.005: 94, 0.025: 99}) {
		t.Errorf("delta = %+v", got)
	}
	if Mean := got.Mean(); math.Abs(Mean-1.01/105) > 1e-9 {
		t.Errorf("mean = %v", Mean)
	}
	if _, err := first.Since(second); err == nil {
		t.Error("a histogram that went backwards must be an error")
	}
	if rejected := scraped(t, after).Histogram(name, Labels{"name": "a", "rejected": "true"}); rejected.Count != 5 {
		t.Errorf("rejected = %+v", rejected)
	}
}

func TestHistogramBound(t *testing.T) {
	h := Histogram{Count: 100, Buckets: map[float64]uint64{0.001: 50, 0.005: 98, 0.01: 99}}
	for q, want := range map[float64]float64{0.5: 0.001, 0.9: 0.005, 0.99: 0.01, 1: math.Inf(1)} {
		if got := h.Bound(q); got != want {
			t.Errorf("bound(%v) = %v, want %v", q, got, want)
		}
	}
	if got := (Histogram{}).Bound(0.5); got != 0 {
		t.Errorf("bound of nothing = %v", got)
	}
}

func TestValue(t *testing.T) {
	s := scraped(t, before)
	for name, tc := range map[string]struct {
		with Labels
		want float64
	}{
		"one series":         {Labels{"webhook": "/b"}, 7},
		"several are summed": {Labels{"webhook": "/a"}, 4},
		"none":               {Labels{"webhook": "/c"}, 0},
		"all":                {nil, 11},
	} {
		if got := s.Value("requests_total", tc.with); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if got := s.Value("not_there", nil); got != 0 {
		t.Errorf("a metric that is not there = %v", got)
	}
}

func TestParseMetricsRefuses(t *testing.T) {
	if s, err := ParseMetrics("<html>not found</html>\n"); err == nil {
		t.Errorf("parsed %v", s)
	}
}

func TestParseMetricsSkips(t *testing.T) {
	s, err := ParseMetrics(before, "requests_")
	if err != nil {
		t.Fatal(err)
	}
	if len(s) != 1 || s.Value("requests_total", nil) != 11 {
		t.Errorf("parsed %v", s)
	}
}
