package keyservice

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/client"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

func TestRequestsThatCannotBeRead(t *testing.T) {
	tests := map[string]struct {
		token             string
		contentType, body string
		method, path      string
		status            int
	}{
		"no JSON":              {token: driverToken, body: "podToken=x", status: 400},
		"nothing":              {token: driverToken, body: "", status: 400},
		"two values":           {token: driverToken, body: `{} {}`, status: 400},
		"unknown field":        {token: driverToken, body: `{"podTokn": "SECRETTOKEN"}`, status: 400},
		"wrong type":           {token: driverToken, body: `{"podToken": ["SECRETTOKEN"]}`, status: 400},
		"too large":            {token: driverToken, body: `{"podToken": "` + strings.Repeat("x", protocol.MaxRequestBytes) + `"}`, status: 400},
		"long name":            {token: driverToken, body: `{"volume": {"podName": "` + strings.Repeat("x", 254) + `"}}`, status: 400},
		"not JSON by type":     {token: driverToken, contentType: "text/plain", body: `{}`, status: 400},
		"another method":       {method: http.MethodGet, status: 405},
		"another path":         {path: "/v1/keys", body: `{}`, status: 404},
		"garbage, no one":      {body: "podToken=x", status: 401},
		"garbage, another one": {token: podToken, body: "podToken=x", status: 401},
		"well formed, no pod":  {token: driverToken, body: `{}`, status: 401},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			method, path, contentType := http.MethodPost, protocol.ReleasePath, "application/json"
			if tc.method != "" {
				method = tc.method
			}
			if tc.path != "" {
				path = tc.path
			}
			if tc.contentType != "" {
				contentType = tc.contentType
			}
			req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(tc.body))
			req.Header.Set("Content-Type", contentType)
			if tc.token != "" {
				req.Header.Set("Authorization", "Bearer "+tc.token)
			}
			answer := httptest.NewRecorder()
			w.handler(t).ServeHTTP(answer, req)
			if answer.Code != tc.status {
				t.Errorf("status %d, want %d: %s", answer.Code, tc.status, answer.Body)
			}
			w.noSecrets(t, answer.Body.String())
		})
	}
}

// A call that finds the service busy is told to come again, when its time is up.
func TestConcurrencyLimit(t *testing.T) {
	w := newWorld(t)
	w.audit.gate, w.audit.begun = make(chan struct{}), make(chan struct{})
	s, err := NewServer(w.releaser(t), ServerOptions{Metrics: prometheus.NewRegistry(), MaxConcurrent: 1, Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan int)
	request := w.httpRequest(t)
	go func() {
		answer := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(answer, request)
		first <- answer.Code
	}()
	<-w.audit.begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	answer := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(answer, w.httpRequest(t).WithContext(ctx))
	if answer.Code != http.StatusTooManyRequests || answer.Header().Get("Retry-After") == "" {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	close(w.audit.gate)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first call: status %d", code)
	}
}

// certificates makes a CA and a leaf for 127.0.0.1 and returns the CA as PEM.
func certificates(t *testing.T) (ca []byte, leaf tls.Certificate) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leafTemplate, template, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}

// served is a Server on a real socket.
type served struct {
	server  *Server
	url     string
	ca      []byte
	metrics *prometheus.Registry
	stop    func() error
}

func (w *world) serve(t *testing.T) *served {
	t.Helper()
	ca, leaf := certificates(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	s, err := NewServer(w.releaser(t), ServerOptions{
		Listener: listener, Metrics: registry, Log: logr.Discard(),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &leaf, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return &served{server: s, url: "https://" + listener.Addr().String(), ca: ca, metrics: registry, stop: stop}
}

// clientFor writes the files that the driver's pod has, and returns a client and the paths of CA and token.
func clientFor(t *testing.T, s *served) (c *client.Client, caFile, tokenFile string) {
	t.Helper()
	dir := t.TempDir()
	caFile, tokenFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	write(t, caFile, s.ca)
	write(t, tokenFile, []byte(driverToken+"\n"))
	c, err := client.New(client.Options{URL: s.url, CAFile: caFile, TokenFile: tokenFile})
	if err != nil {
		t.Fatal(err)
	}
	return c, caFile, tokenFile
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBothEnds(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t)
	c, caFile, tokenFile := clientFor(t, s)

	response, err := c.Release(t.Context(), &w.request)
	if err != nil {
		t.Fatal(err)
	}
	if string(response.Files[v1alpha1.KeyFileName]) != w.secret+"\n" {
		t.Error("the key did not arrive as it is")
	}

	refusedWith := func(reason v1alpha1.Reason, temporary bool) {
		t.Helper()
		_, err := c.Release(t.Context(), &w.request)
		var refusal *protocol.Error
		if !errors.As(err, &refusal) || refusal.Reason != reason || refusal.Temporary != temporary {
			t.Errorf("error %v, want %s (temporary %v)", err, reason, temporary)
		}
		if err != nil && strings.Contains(err.Error(), "SECRETTOKEN") {
			t.Errorf("the error holds a token: %v", err)
		}
	}
	// The files are read at every call: kubelet renews the token, the operator the CA.
	write(t, tokenFile, []byte(podToken))
	refusedWith(v1alpha1.ReasonUnauthenticated, false)
	write(t, tokenFile, []byte(driverToken))
	other, _ := certificates(t)
	write(t, caFile, other)
	refusedWith(v1alpha1.ReasonKeyServiceUnreachable, true)
	write(t, caFile, []byte("no certificate"))
	refusedWith(v1alpha1.ReasonKeyServiceUnreachable, true)
	write(t, caFile, append(other, s.ca...))
	if _, err := c.Release(t.Context(), &w.request); err != nil {
		t.Errorf("after the CA is back: %v", err)
	}

	// Denials arrive as they were decided.
	w.audit.err = errBroken
	refusedWith(v1alpha1.ReasonAuditUnavailable, true)

	for name, want := range map[string]float64{
		"modelrights_key_releases_total":                                        2,
		"modelrights_key_refusals_total Unauthenticated":                        1,
		"modelrights_key_refusals_total AuditUnavailable":                       1,
		"modelrights_key_release_duration_seconds " + resultReleased + " count": 2,
	} {
		if got := gathered(t, s.metrics)[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	if err := s.server.Ready(nil); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if err := s.server.Ready(nil); err == nil {
		t.Error("ready after it was stopped")
	}
	refusedWith(v1alpha1.ReasonKeyServiceUnreachable, true)
}

// gathered returns counters, and counts of histograms, by name and label values.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				values[name+" count"] = float64(h.GetSampleCount())
			} else {
				values[name] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}

func TestOldTLSIsRefused(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca)
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}}
	if _, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "https://")); err == nil {
		t.Error("TLS 1.2 is accepted")
	}
}

func TestReadyWithoutCertificate(t *testing.T) {
	s, err := NewServer(newWorld(t).releaser(t), ServerOptions{
		Metrics: prometheus.NewRegistry(), Log: logr.Discard(),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.listening.Store(true)
	if s.Ready(nil) == nil {
		t.Error("ready without a certificate")
	}
	if s.NeedLeaderElection() {
		t.Error("only the leader would release keys")
	}
}

func TestClientAgainstOthers(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>SECRETKEY</html>")) },
		"no key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"files": {"other": "U0VDUkVUS0VZ"}}`))
		},
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), protocol.MaxResponseBytes+1))
		},
		"an error page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
		"a refusal of the request": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(&protocol.Error{Message: "the request cannot be read"})
		},
		"an answer that breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
			panic(http.ErrAbortHandler)
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			calls := 0
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				answer(w, r)
			}))
			defer server.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			c, _, _ := clientFor(t, &served{url: server.URL, ca: ca})
			_, err := c.Release(t.Context(), &protocol.ReleaseRequest{PodToken: podToken})
			var refusal *protocol.Error
			if !errors.As(err, &refusal) || !refusal.Temporary || refusal.Reason != v1alpha1.ReasonKeyServiceUnreachable {
				t.Fatalf("error %v, want a temporary one", err)
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes the answer or a token: %v", err)
			}
			if calls != 1 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

// The driver makes no more calls at a time than the service takes of a node; the others wait for their turn, or until
// kubelet gives up.
func TestClientTakesTurns(t *testing.T) {
	var mu sync.Mutex
	atOnce, most := 0, 0
	full, leave := make(chan struct{}), make(chan struct{})
	count := func(change int) {
		mu.Lock()
		defer mu.Unlock()
		atOnce += change
		if atOnce == protocol.MaxCallsPerNode && most < atOnce {
			close(full)
		}
		most = max(most, atOnce)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		count(1)
		defer count(-1)
		<-leave
		_ = json.NewEncoder(w).Encode(protocol.ReleaseResponse{Files: map[string][]byte{v1alpha1.KeyFileName: []byte("key")}})
	}))
	defer server.Close()
	c, _, _ := clientFor(t, &served{url: server.URL, ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})})
	const calls = 40
	results := make(chan error, calls)
	for range calls {
		go func() {
			_, err := c.Release(t.Context(), &protocol.ReleaseRequest{PodToken: podToken})
			results <- err
		}()
	}
	<-full
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		_, err := c.Release(ended, &protocol.ReleaseRequest{PodToken: podToken})
		var refusal *protocol.Error
		if !errors.As(err, &refusal) || !refusal.Temporary || refusal.Reason != v1alpha1.ReasonKeyServiceUnreachable ||
			!strings.Contains(refusal.Message, "turn") {
			t.Fatalf("a call that did not get its turn: %v", err)
		}
	}
	close(leave)
	for range calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most != protocol.MaxCallsPerNode {
		t.Errorf("%d calls at the same time, want %d", most, protocol.MaxCallsPerNode)
	}
}

func TestClientURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://modelrights-keyservice.modelrights-system.svc":     true,
		"https://modelrights-keyservice.modelrights-system.svc:443": true,
		"http://modelrights-keyservice.modelrights-system.svc":      false,
		"modelrights-keyservice:443":                                false,
		"https://":                                                  false,
		"https://user:password@host":                                false,
		"":                                                          false,
		"https://host:port":                                         false,
	} {
		if _, err := client.New(client.Options{URL: url}); (err == nil) != ok {
			t.Errorf("%q: error %v", url, err)
		} else if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}
