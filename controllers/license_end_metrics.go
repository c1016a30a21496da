package controllers

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"modelrights.dev/modelrights/internal/entitlement"
)

// licenseEnds shows when licences end. Each replica shows the same.
type licenseEnds struct {
	rights Governing
	mu     sync.Mutex
	ends   *prometheus.GaugeVec
}

// RegisterLicenseEnds registers the metric of when licences end: of those that end, the first 1,000.
func RegisterLicenseEnds(registry prometheus.Registerer, rights Governing) error {
	err := registry.Register(&licenseEnds{rights: rights, ends: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "modelrights_license_expiration_timestamp_seconds",
		Help: "When the licence ends, without its grace period, in Unix seconds; absent where it does not end.",
	}, []string{"license"})})
	if err != nil {
		return fmt.Errorf("registering the metric of licences' ends: %w", err)
	}
	return nil
}

// Describe is part of prometheus.Collector.
func (m *licenseEnds) Describe(ch chan<- *prometheus.Desc) { m.ends.Describe(ch) }

// Collect is part of prometheus.Collector.
func (m *licenseEnds) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends.Reset()
	snapshot, synced := m.rights.Snapshot()
	if !synced {
		return
	}
	type ending struct {
		name string
		at   time.Time
	}
	var all []ending
	for l := range snapshot.Licenses() {
		if _, until, _ := entitlement.Validity(l, nil); !until.IsZero() {
			all = append(all, ending{l.Name, until})
		}
	}
	slices.SortFunc(all, func(a, b ending) int { return a.at.Compare(b.at) })
	for _, l := range all[:min(len(all), maxNamedLicenses)] {
		m.ends.WithLabelValues(l.name).Set(float64(l.at.Unix()))
	}
	m.ends.Collect(ch)
}
