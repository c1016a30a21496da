package audit

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Names of the two queues in metrics.
const (
	queueReserved = "reserved"
	queueOrdinary = "ordinary"
)

var (
	entriesWritten = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modelrights_audit_entries_total",
		Help: "Entries that this replica committed to the audit log, by type.",
	}, []string{"type"})

	recordsWritten = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modelrights_audit_records_total",
		Help: "ModelAuditRecords that this replica committed.",
	})

	appendSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "modelrights_audit_append_duration_seconds",
		Help:    "Time from when an entry is handed to the log until it is durable in etcd, by queue.",
		Buckets: []float64{.01, .025, .05, .1, .2, .3, .5, .75, 1, 2, 5, 10, 30},
	}, []string{"queue"})

	conflicts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modelrights_audit_conflicts_total",
		Help: "Records that another replica had written first, so that this one moved on and tried again.",
	})

	writeErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modelrights_audit_write_errors_total",
		Help: "Attempts to write a record that failed, by what came of it: retried or refused.",
	}, []string{"result"})

	queueLength = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "modelrights_audit_queue_length",
		Help: "Entries that wait to be written, by queue.",
	}, []string{"queue"})

	entriesDropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modelrights_audit_dropped_total",
		Help: "Entries that nobody waited for and that were not written; Gap entries count them.",
	}, []string{"type"})

	entriesCapped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modelrights_audit_denials_capped_total",
		Help: "Denials and key refusals beyond what they may write to the log; Gap entries count them.",
	}, []string{"type"})
)

func init() {
	metrics.Registry.MustRegister(entriesWritten, recordsWritten, appendSeconds, conflicts, writeErrors, queueLength,
		entriesDropped, entriesCapped)
	// Rates see the first of a type only if there were none before.
	for _, t := range []Type{Admitted, Denied, Found, CopyDetected, CopyEvicted, KeyReleased, KeyRefused, Revoked, RevokedPodEnded, KeyWiped, SeatEnded, Exec, TimeMarkReset, Gap} {
		entriesWritten.WithLabelValues(string(t))
		entriesDropped.WithLabelValues(string(t))
	}
	for _, result := range []string{"retried", "refused"} {
		writeErrors.WithLabelValues(result)
	}
}
