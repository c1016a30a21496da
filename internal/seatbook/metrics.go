package seatbook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bookMetrics are what a Book tells of itself. They name no licence, since there may be ten thousand.
type bookMetrics struct {
	conflicts prometheus.Counter
	duration  prometheus.Histogram
	batch     prometheus.Histogram
	errors    *prometheus.CounterVec
}

func newBookMetrics(registerer prometheus.Registerer) *bookMetrics {
	m := &bookMetrics{
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modelrights_seat_ledger_conflicts_total",
			Help: "Writes of a seat ledger that came too late, since another writer had changed it, and were done again.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_seat_ledger_commit_duration_seconds",
			Help:    "Time from when a batch of changes to a seat ledger is begun until it is durable in etcd.",
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_seat_ledger_batch_changes",
			Help:    "Changes to a seat ledger that were written together.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_seat_ledger_write_errors_total",
			Help: "Attempts to change a seat ledger that failed, by what came of it: retried or refused.",
		}, []string{"result"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.conflicts, m.duration, m.batch, m.errors)
	}
	return m
}

func (m *bookMetrics) committed(took time.Duration, calls []*call) {
	changes := 0
	for _, c := range calls {
		changes += len(c.changes)
	}
	m.duration.Observe(took.Seconds())
	m.batch.Observe(float64(changes))
}

func (m *bookMetrics) failed(result string) { m.errors.WithLabelValues(result).Inc() }
