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
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modelrights_node_calls_total",
			Help: "Calls from kubelet, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modelrights_node_call_duration_seconds",
			Help:    "Time that calls from kubelet took, by method.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120},
		}, []string{"method"}),
	}
	return m, errors.Join(registry.Register(m.calls), registry.Register(m.seconds))
}

// NewServer returns a server of a driver. The error is of registering the metrics.
func NewServer(driver *Driver, sockets Sockets, registry prometheus.Registerer) (*Server, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, fmt.Errorf("register the node driver's metrics: %w", err)
	}
	return &Server{
		driver: driver, sockets: sockets, metrics: m,
		register: registrar{endpoint: sockets.CSI, log: driver.options.Log},
	}, nil
}

// observe counts and logs a call. It alone logs failures, those of the key service among them. Requests are never logged
// as they are: they carry tokens.
func (s *Server) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	started := time.Now()
	resp, err := next(ctx, req)
	method, code := path.Base(info.FullMethod), status.Code(err)
	s.metrics.calls.WithLabelValues(method, code.String()).Inc()
	s.metrics.seconds.WithLabelValues(method).Observe(time.Since(started).Seconds())
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
