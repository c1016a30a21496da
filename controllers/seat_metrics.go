package controllers

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// maxNamedLicenses bounds the licences that metrics name, otherLicenses is the label of all others together. No licence
	// has that name.
	maxNamedLicenses = 1000
	otherLicenses    = "_other"
)

// SeatMetrics shows the seats in use, as the ledgers have them, and who waits. What was used is computed from the ledgers
// too, so that it goes on where it was after a restart. Only the leader shows it, so that replicas can be summed up.
type SeatMetrics struct {
	ledgers SeatLedgers
	queue   SeatWaiting
	clock   clock.PassiveClock
	leads   <-chan struct{}

	inUse, limit, waiting, beyond *prometheus.Desc
	podSeconds, resourceSeconds   *prometheus.Desc
	waited                        prometheus.Histogram
	mu                            sync.Mutex
	named                         map[string]bool
	others                        map[string]v1alpha1.UsageStatus // of licences that are not named, by name
	closed                        v1alpha1.UsageStatus            // of those whose ledgers are gone
}

// NewSeatMetrics registers the metrics. They are shown once leads is closed. Queue is optional.
func NewSeatMetrics(registry prometheus.Registerer, ledgers SeatLedgers, queue SeatWaiting, now clock.PassiveClock, leads <-chan struct{}) (*SeatMetrics, error) {
	m := &SeatMetrics{
		ledgers: ledgers, queue: queue, clock: now, leads: leads, named: map[string]bool{}, others: map[string]v1alpha1.UsageStatus{},
		inUse: prometheus.NewDesc("modelrights_seats_in_use",
			"What the pods that hold a seat of a licence use together: pods, nodes, and resources that they request.", []string{"license", "resource"}, nil),
		limit: prometheus.NewDesc("modelrights_seats_limit",
			"What the licence limits that to; absent where it does not.", []string{"license", "resource"}, nil),
		waiting: prometheus.NewDesc("modelrights_seats_waiting",
			"Pods that wait for a seat of a licence.", []string{"license"}, nil),
		beyond: prometheus.NewDesc("modelrights_seats_beyond_limits",
			"Pods that hold a seat beyond the limits of a licence.", []string{"license"}, nil),
		podSeconds: prometheus.NewDesc("modelrights_seat_seconds_total",
			"For how many seconds pods held seats of a licence, together.", []string{"license"}, nil),
		resourceSeconds: prometheus.NewDesc("modelrights_seat_resource_seconds_total",
			"The resources that they requested, times the seconds: of cpu in cores, of memory in gibibytes.", []string{"license", "resource"}, nil),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "modelrights_seat_wait_seconds",
			Help:    "How long pods waited for their seats, from their creation.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600},
		}),
	}
	return m, errors.Join(registry.Register(m), registry.Register(m.waited))
}

// Waited notes how long a pod waited that has its seats now. A nil *SeatMetrics notes nothing.
func (m *SeatMetrics) Waited(d time.Duration) {
	if m != nil {
		m.waited.Observe(max(d, 0).Seconds())
	}
}

// Describe is part of prometheus.Collector.
func (m *SeatMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.inUse, m.limit, m.waiting, m.beyond, m.podSeconds, m.resourceSeconds} {
		ch <- desc
	}
}

// licenseSeats is what is shown of one licence, or of all others together.
type licenseSeats struct {
	inUse, limit    map[corev1.ResourceName]float64
	waiting, beyond int
	usage           v1alpha1.UsageStatus
}

// Collect is part of prometheus.Collector.
func (m *SeatMetrics) Collect(ch chan<- prometheus.Metric) {
	select {
	case <-m.leads:
	default:
		return
	}
	if !m.ledgers.Synced() {
		return
	}
	for license, s := range m.gather() {
		gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{license}, labels...)...)
		}
		for resource, value := range s.inUse {
			gauge(m.inUse, value, string(resource))
		}
		for resource, value := range s.limit {
			gauge(m.limit, value, string(resource))
		}
		gauge(m.waiting, float64(s.waiting))
		gauge(m.beyond, float64(s.beyond))
		ch <- prometheus.MustNewConstMetric(m.podSeconds, prometheus.CounterValue, float64(s.usage.PodSeconds), license)
		for resource, seconds := range s.usage.ResourceSeconds {
			ch <- prometheus.MustNewConstMetric(m.resourceSeconds, prometheus.CounterValue, float64(seconds), license, string(resource))
		}
	}
}

// gather reads the ledgers. A licence keeps its name, or its place among the others, and what others used stays when their
// ledgers go: else counters would go down, which reads as a restart.
func (m *SeatMetrics) gather() map[string]*licenseSeats {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	shown := map[string]*licenseSeats{}
	present := map[string]bool{}
	for _, license := range m.ledgers.Licenses() {
		ledger := m.ledgers.Ledger(license)
		if ledger == nil {
			continue
		}
		present[license] = true
		usage := ledger.Usage(now)
		label := license
		if !m.named[license] {
			_, other := m.others[license]
			if other = other || len(m.named) >= maxNamedLicenses; other {
				label, m.others[license] = otherLicenses, usage
			} else {
				m.named[license] = true
			}
		}
		s := shown[label]
		if s == nil {
			s = &licenseSeats{inUse: map[corev1.ResourceName]float64{}, limit: map[corev1.ResourceName]float64{}}
			shown[label] = s
		}
		s.add(ledger, usage)
		if m.queue != nil {
			s.waiting += waitingSum(m.queue.Waiting(license)).Pods
		}
	}
	for license := range m.named {
		if !present[license] {
			delete(m.named, license)
		}
	}
	for license, usage := range m.others {
		if !present[license] {
			addUsage(&m.closed, usage)
			delete(m.others, license)
		}
	}
	if s := shown[otherLicenses]; s != nil {
		addUsage(&s.usage, m.closed)
	}
	return shown
}

func (s *licenseSeats) add(ledger *seats.Ledger, usage v1alpha1.UsageStatus) {
	for resource, quantity := range ledger.InUse() {
		s.inUse[resource] += quantity.AsApproximateFloat64()
	}
	for resource, quantity := range ledger.Limits() {
		s.limit[resource] += quantity.AsApproximateFloat64()
	}
	s.beyond += ledger.BeyondLimits()
	addUsage(&s.usage, usage)
}

func addUsage(sum *v1alpha1.UsageStatus, more v1alpha1.UsageStatus) {
	sum.PodSeconds += more.PodSeconds
	for resource, seconds := range more.ResourceSeconds {
		if sum.ResourceSeconds == nil {
			sum.ResourceSeconds = map[corev1.ResourceName]int64{}
		}
		sum.ResourceSeconds[resource] += seconds
	}
}
