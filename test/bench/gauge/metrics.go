package gauge

import (
	"fmt"
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Labels are those that a series must have; others may be there too.
type Labels map[string]string

// Scrape is what one reading of /metrics showed, by the name of the metric.
type Scrape map[string]*dto.MetricFamily

// ParseMetrics reads Prometheus' text format. Where names are given, it skips the metrics whose names begin with none of
// them: an API server has thousands of series.
func ParseMetrics(text string, names ...string) (Scrape, error) {
	if len(names) > 0 {
		text = linesOf(text, names)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parsing metrics: %w", err)
	}
	return families, nil
}

// linesOf keeps the lines on metrics whose names begin with one of those.
func linesOf(text string, names []string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(name, n) }) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// Series lists the series of a metric that have the labels.
func (s Scrape) Series(name string, with Labels) []*dto.Metric {
	return slices.DeleteFunc(slices.Clone(s[name].GetMetric()), func(m *dto.Metric) bool {
		matched := 0
		for _, label := range m.GetLabel() {
			if value, ok := with[label.GetName()]; ok && value == label.GetValue() {
				matched++
			}
		}
		return matched != len(with)
	})
}

// Value sums counters and gauges that have the labels; a series that is not there has counted nothing yet.
func (s Scrape) Value(name string, with Labels) float64 {
	sum := 0.0
	for _, m := range s.Series(name, with) {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum
}

// Histogram sums those that have the labels.
func (s Scrape) Histogram(name string, with Labels) Histogram {
	var sum Histogram
	for _, m := range s.Series(name, with) {
		one := Histogram{Count: m.GetHistogram().GetSampleCount(), Sum: m.GetHistogram().GetSampleSum(), Buckets: map[float64]uint64{}}
		for _, b := range m.GetHistogram().GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				one.Buckets[b.GetUpperBound()] = b.GetCumulativeCount()
			}
		}
		sum = sum.Plus(one)
	}
	return sum
}

// Histogram is what a Prometheus histogram counted. Buckets are cumulative, by their upper bounds, without +Inf.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64
}

// Plus is what both counted.
func (h Histogram) Plus(other Histogram) Histogram {
	sum := Histogram{Count: h.Count + other.Count, Sum: h.Sum + other.Sum, Buckets: map[float64]uint64{}}
	for Bound, n := range h.Buckets {
		sum.Buckets[Bound] += n
	}
	for Bound, n := range other.Buckets {
		sum.Buckets[Bound] += n
	}
	return sum
}

// Since is what was counted after an earlier reading. A histogram that went backwards was that of a process which has
// been restarted: an error.
func (h Histogram) Since(before Histogram) (Histogram, error) {
	if h.Count < before.Count {
		return Histogram{}, fmt.Errorf("a histogram went back from %d to %d observations: its process was restarted", before.Count, h.Count)
	}
	delta := Histogram{Count: h.Count - before.Count, Sum: h.Sum - before.Sum, Buckets: map[float64]uint64{}}
	for Bound, n := range h.Buckets {
		if n < before.Buckets[Bound] {
			return Histogram{}, fmt.Errorf("the bucket up to %g went back from %d to %d: its process was restarted", Bound, before.Buckets[Bound], n)
		}
		delta.Buckets[Bound] = n - before.Buckets[Bound]
	}
	return delta, nil
}

// Mean is in the unit of the histogram; 0 where nothing was observed.
func (h Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / float64(h.Count)
}

// Bound is the upper bound of the bucket in which the quantile q lies: it is at most so much. The API server's buckets
// are wide, and interpolating in them would invent figures. It is +Inf beyond the last bucket, and 0 where nothing was
// observed.
func (h Histogram) Bound(q float64) float64 {
	if h.Count == 0 {
		return 0
	}
	bounds := make([]float64, 0, len(h.Buckets))
	for b := range h.Buckets {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	for _, b := range bounds {
		if float64(h.Buckets[b]) >= q*float64(h.Count) {
			return b
		}
	}
	return math.Inf(1)
}
