package nodedriver

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
)

type metrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	renewals *prometheus.CounterVec
	wiped    *prometheus.CounterVec
	reports  *prometheus.CounterVec
	// wipeFailures are keys that should be gone and are still there, by attempt.
	wipeFailures prometheus.Counter
}

// The values of the label result of renewals and reports.
const (
	resultRenewed = "renewed"
	resultKept    = "kept"
	resultWiped   = "wiped"
	resultDone    = "delivered"
	resultRefused = "refused"
	resultFailed  = "failed"
)

// The values of the label cause of wiped keys.
const (
	causeLease   = "lease"
	causeRefused = "refused"
)

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_node_calls_total",
			Help: "Calls from kubelet, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modelrights_node_call_duration_seconds",
			Help:    "Time that calls from kubelet took, by method.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120},
		}, []string{"method"}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_node_lease_renewals_total",
			Help: "Renewals of leases that the key service was asked for, by result.",
		}, []string{"result"}),
		wiped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_node_keys_wiped_total",
			Help: "Keys that were wiped while their pods ran, by cause.",
		}, []string{"cause"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_node_reports_total",
			Help: "Attempts to report the end of a key to the key service, by event and result.",
		}, []string{"event", "result"}),
		wipeFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modelrights_node_wipe_failures_total",
			Help: "Attempts to wipe a key that failed.",
		}),
	}
}

// register registers the driver's metrics.
func (d *Driver) register(registry prometheus.Registerer) error {
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modelrights_node_reports_waiting",
		Help: "Reports of the end of a key that were not delivered yet.",
	}, func() float64 { return float64(d.reports.len()) })
	m := d.metrics
	return errors.Join(registry.Register(m.calls), registry.Register(m.seconds), registry.Register(m.renewals),
		registry.Register(m.wiped), registry.Register(m.reports),
		registry.Register(m.wipeFailures), registry.Register(waiting))
}

// NewServer returns a server of a driver. The error is of registering the metrics.
func NewServer(driver *Driver, sockets Sockets, registry prometheus.Registerer) (*Server, error) {
	if err := driver.register(registry); err != nil {
		return nil, fmt.Errorf("register the node driver's metrics: %w", err)
	}
	return &Server{
		driver: driver, sockets: sockets,
		register: registrar{endpoint: sockets.CSI, log: driver.options.Log},
	}, nil
}

// observe counts and logs a call. It alone logs failures, those of the key service among them. Requests are never logged
// as they are: they carry tokens.
func (s *Server) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	started := time.Now()
	resp, err := next(ctx, req)
	method, code := path.Base(info.FullMethod), status.Code(err)
	s.driver.metrics.calls.WithLabelValues(method, code.String()).Inc()
	s.driver.metrics.seconds.WithLabelValues(method).Observe(time.Since(started).Seconds())
	log := s.driver.options.Log.WithValues("method", method, "code", code.String()).WithValues(subject(req)...)
	if code != codes.OK {
		log.Info("Call failed", "error", status.Convert(err).Message())
	} else {
		log.V(1).Info("Call answered")
	}
	return resp, err
}

// subject is which volume a call is about, and of which pod and licence as far as the call says so: keys and values for a
// log.
func subject(req any) []any {
	var values []any
	if v, ok := req.(interface{ GetVolumeId() string }); ok {
		values = append(values, "volume", v.GetVolumeId())
	}
	if v, ok := req.(*csi.NodePublishVolumeRequest); ok {
		c := v.GetVolumeContext()
		values = append(values, "namespace", c[contextPodNamespace], "pod", c[contextPodName], "license", c[v1alpha1.VolumeAttributeLicense])
	}
	return values
}
