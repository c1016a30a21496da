package keyservice

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// The server's bounds in time. A release takes a few reads of the API server, one write to the ledger and one commit to
// the log.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	readBodyTimeout   = 5 * time.Second
	releaseTimeout    = 20 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 10 * time.Second
)

// DefaultMaxConcurrent is how many calls a server decides at the same time unless it is told otherwise.
const DefaultMaxConcurrent = 64

// ServerOptions say where and how the key service serves.
type ServerOptions struct {
	// Address is what to listen on, HOST:PORT; the host may be left out. Ignored where Listener is set.
	Address string
	// Listener is used instead of Address; tests set it. The server closes it.
	Listener net.Listener
	// Certificate returns the serving certificate of the moment.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Metrics takes the server's metrics.
	Metrics prometheus.Registerer
	// MaxConcurrent is how many calls are decided at the same time; more wait. 0 means DefaultMaxConcurrent.
	MaxConcurrent int
	// Log takes one line a call.
	Log logr.Logger
}

// Server serves a Releaser over HTTPS. It runs on every replica of the operator, leader or not.
type Server struct {
	options   ServerOptions
	http      *http.Server
	listening atomic.Bool
}

var (
	_ manager.Runnable               = (*Server)(nil)
	_ manager.LeaderElectionRunnable = (*Server)(nil)
)

// NewServer returns a server that is not yet started. The error is of registering the metrics.
func NewServer(releaser *Releaser, options ServerOptions) (*Server, error) {
	m, err := newMetrics(options.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register the key service's metrics: %w", err)
	}
	if options.MaxConcurrent == 0 {
		options.MaxConcurrent = DefaultMaxConcurrent
	}
	mux := http.NewServeMux()
	h := &handler{
		releaser: releaser, door: newDoor(releaser), metrics: m, clock: releaser.Clock, log: options.Log,
		slots: make(chan struct{}, options.MaxConcurrent),
	}
	for path, answer := range map[string]http.HandlerFunc{
		protocol.ReleasePath: h.release, protocol.RenewPath: h.renew, protocol.ReportPath: h.report,
	} {
		mux.Handle(http.MethodPost+" "+path, withTimeout(releaseTimeout, answer))
	}
	s := &Server{options: options}
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    protocol.MaxHeaderBytes,
		ErrorLog:          httpErrorLog(options.Log),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: options.Certificate},
		// Small calls need no multiplexing, and HTTP/1.1 has no streams to exhaust.
		Protocols: new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	return s, nil
}

// withTimeout ends the context of a call, not the call itself: unlike http.TimeoutHandler, what is answered is always
// what was decided.
func withTimeout(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), d)
		defer cancel()
		next.ServeHTTP(w, req.WithContext(ctx))
	})
}

// NeedLeaderElection is false: every replica releases keys.
func (s *Server) NeedLeaderElection() bool { return false }

// Start serves until the context ends, then finishes the calls under way, at most 10 s.
func (s *Server) Start(ctx context.Context) error {
	listener := s.options.Listener
	if listener == nil {
		var err error
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.Address); err != nil {
			return fmt.Errorf("listen for the key service: %w", err)
		}
	}
	s.listening.Store(true)
	served := make(chan error, 1)
	go func() { served <- s.http.ServeTLS(listener, "", "") }()
	select {
	case err := <-served:
		s.listening.Store(false)
		return fmt.Errorf("serve the key service: %w", err)
	case <-ctx.Done():
	}
	s.listening.Store(false)
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(finish)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if err != nil {
		return fmt.Errorf("stop the key service: %w", err)
	}
	return nil
}

// Ready says whether the server listens and has a certificate. It is a healthz.Checker.
func (s *Server) Ready(*http.Request) error {
	if !s.listening.Load() {
		return errors.New("the key service does not listen yet")
	}
	certificate, err := s.options.Certificate(&tls.ClientHelloInfo{})
	if err != nil {
		return fmt.Errorf("the key service has no certificate: %w", err)
	}
	if certificate == nil {
		return errors.New("the key service has no certificate yet")
	}
	return nil
}
