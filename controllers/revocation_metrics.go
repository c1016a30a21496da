package controllers

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// RevocationMetrics count what is done about pods that lost their entitlement.
type RevocationMetrics struct {
	revoked *prometheus.CounterVec
	ended   *prometheus.CounterVec
	asked   prometheus.Histogram
	wiped   prometheus.Histogram
}

// NewRevocationMetrics registers the metrics. The error means that they are registered already.
func NewRevocationMetrics(registry prometheus.Registerer) (*RevocationMetrics, error) {
	m := &RevocationMetrics{
		revoked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_revocations_total",
			Help: "Licences that running pods lost the right to, by reason. Each pod and licence counts once.",
		}, []string{"reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_revoked_pods_ended_total",
			Help: "Pods that were ended since they lost their entitlement, by way: evicted, or deleted where that was refused for two minutes.",
		}, []string{"way"}),
		asked: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_revocation_notice_seconds",
			Help:    "Time from when the operator saw that a pod lost its entitlement until it made the pod's node look.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
		wiped: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_revocation_wipe_seconds",
			Help:    "Time from when the operator saw that a pod lost its entitlement until the ledger says that the key was wiped, or the pod gave up its seat.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 17),
		}),
	}
	for _, c := range []prometheus.Collector{m.revoked, m.ended, m.asked, m.wiped} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of revocation: %w", err)
		}
	}
	return m, nil
}
