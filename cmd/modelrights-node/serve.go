//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"modelrights.dev/modelrights/internal/nodedriver"
)

// serve runs the driver and its probes until the context ends or one of them fails.
func serve(ctx context.Context, server *nodedriver.Server, registry *prometheus.Registry, healthAddress string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", probe(server.Alive))
	mux.HandleFunc("GET /readyz", probe(server.Ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	health := &http.Server{Addr: healthAddress, Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	healthFailed := make(chan error, 1)
	go func() {
		err := health.ListenAndServe()
		cancel()
		healthFailed <- err
	}()
	err := server.Run(ctx)
	err = errors.Join(err, health.Close())
	if healthErr := <-healthFailed; !errors.Is(healthErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve probes: %w", healthErr))
	}
	return err
}

func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok") // the prober has gone
	}
}

// newLog returns a log that writes JSON lines.
func newLog(w io.Writer, debug bool) logr.Logger {
	options := funcr.Options{LogTimestamp: true, TimestampFormat: time.RFC3339Nano}
	if debug {
		options.Verbosity = 1
	}
	return funcr.NewJSON(func(line string) { _, _ = fmt.Fprintln(w, line) }, options)
}
