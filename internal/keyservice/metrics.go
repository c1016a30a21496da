package keyservice

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// metrics are what the server counts. No label holds a name that a tenant chooses.
type metrics struct {
	releases prometheus.Counter
	refusals *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	renewals   *prometheus.CounterVec
	reports    *prometheus.CounterVec
	revocation prometheus.Histogram
}

// The values of the label result of the latency.
const (
	resultReleased = "released"
	resultRefused  = "refused"
)

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		releases: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modelrights_key_releases_total",
			Help: "Keys that were released to nodes.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_key_refusals_total",
			Help: "Calls for a key that were refused, by reason.",
		}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modelrights_key_release_duration_seconds",
			Help:    "Time from reading a call for a key to its decision, the audit entry included, by result.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"result"}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_lease_renewals_total",
			Help: "Calls to renew the lease of a key, by verdict and, where it was not renewed, reason.",
		}, []string{"verdict", "reason"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_keyservice_reports_total",
			Help: "Reports of nodes that a key is gone, by event and, where the report was not taken, reason.",
		}, []string{"event", "reason"}),
		revocation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_keyservice_wipe_report_seconds",
			Help:    "Time from the revocation of a pod's licence until its key was wiped on the node.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 3600},
		}),
	}
	return m, errors.Join(registry.Register(m.releases), registry.Register(m.refusals), registry.Register(m.seconds),
		registry.Register(m.renewals), registry.Register(m.reports), registry.Register(m.revocation))
}

func (m *metrics) released(took time.Duration) {
	m.releases.Inc()
	m.seconds.WithLabelValues(resultReleased).Observe(took.Seconds())
}

func (m *metrics) refused(reason v1alpha1.Reason, took time.Duration) {
	m.refusals.WithLabelValues(string(reason)).Inc()
	m.seconds.WithLabelValues(resultRefused).Observe(took.Seconds())
}
