package webhooks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts decisions and times live reads. Its labels take few values: none is chosen by a tenant.
type metrics struct {
	decisions *prometheus.CounterVec
	reads     *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_admission_decisions_total",
			Help: "Admission requests for pods and workloads that were decided, by webhook, operation, verdict (allowed, denied, warned, tolerated: refused, but no licence that covers it enforces) and reason code (see docs/reasons.md); Unchanged is an update that changes nothing of concern.",
		}, []string{"webhook", "operation", "verdict", "reason"}),
		reads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modelrights_admission_live_read_seconds",
			Help:    "Duration of the live reads that precede every denial, by result (ok, error).",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 11),
		}, []string{"result"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if err := r.Register(m.decisions); err != nil {
		return err
	}
	return r.Register(m.reads)
}

func (m *metrics) decided(webhook, operation, verdict, reason string) {
	m.decisions.WithLabelValues(webhook, operation, verdict, reason).Inc()
}

func (m *metrics) read(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.reads.WithLabelValues(result).Observe(took.Seconds())
}
