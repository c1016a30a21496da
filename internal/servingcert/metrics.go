package servingcert

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are when the certificates end, and how often they were replaced. A nil *Metrics counts nothing.
type Metrics struct {
	expiry    *prometheus.GaugeVec
	rotations *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "modelrights_certificate_expiration_timestamp_seconds",
			Help: "When the certificate that this replica serves ends (leaf), and the CA that verifies it (ca), in Unix seconds.",
		}, []string{"certificate"}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_certificate_rotations_total",
			Help: "Certificates of the operator's own authority that took up service, by certificate: ca or leaf.",
		}, []string{"certificate"}),
	}
	for _, certificate := range []string{certificateCA, certificateLeaf} {
		m.rotations.WithLabelValues(certificate)
	}
	return m, errors.Join(registry.Register(m.expiry), registry.Register(m.rotations))
}

// show says when the certificates end. Zero times are left out.
func (m *Metrics) show(ca, leaf time.Time) {
	if m == nil {
		return
	}
	for certificate, end := range map[string]time.Time{certificateCA: ca, certificateLeaf: leaf} {
		if !end.IsZero() {
			m.expiry.WithLabelValues(certificate).Set(float64(end.Unix()))
		}
	}
}

func (m *Metrics) rotated(certificate string) {
	if m != nil {
		m.rotations.WithLabelValues(certificate).Inc()
	}
}
