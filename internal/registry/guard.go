package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// requestTimeout bounds one request, its answer's body included.
	requestTimeout = 20 * time.Second
	// maxBody bounds an answer's body, in bytes. Registries take manifests of at most 4 MiB.
	// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
	maxBody = 4 << 20
	// maxHeader bounds an answer's header, in bytes.
	maxHeader = 64 << 10
	// maxRedirects bounds how often an answer may send elsewhere.
	maxRedirects = 3
)

// refusal is why we would not do what a registry asked for. Its text is ours.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{text: fmt.Sprintf(format, args...)} }

// newTransport is what requests end in, once the guard has let them pass. It uses no proxy, since a proxy would resolve
// names by itself, and unpacks nothing, since little can become much that way.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext:            dialer{}.dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Minute,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// guard lets requests pass that are meant for one registry, or for its token service, and bounds them. Everything that
// go-containerregistry does on behalf of that registry (logging in, following redirects and pages) goes through it.
type guard struct {
	registry endpoint
	plain    bool // it may be asked without TLS
	servers  *servers
	next     http.RoundTripper
	timeout  time.Duration // of a request, its answer's body included
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(in *http.Request) (*http.Response, error) {
	target := endpointOf(in.URL)
	if err := g.check(in, target); err != nil {
		return nil, err
	}
	server := g.servers.of(target)
	if err := server.enter(in.Context()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(in.Context(), g.timeout)
	out := in.Clone(ctx)
	if previous := in.Response; previous != nil && !endpointOf(previous.Request.URL).sameServer(target) {
		for _, header := range []string{"Authorization", "Cookie", "Referer"} {
			out.Header.Del(header)
		}
	}
	response, err := g.next.RoundTrip(out)
	if err != nil {
		server.leave()
		cancel()
		if in.Context().Err() == nil {
			server.failed(err)
		}
		return nil, err
	}
	server.answered(response.StatusCode, response.Header)
	response.Body = &boundedBody{ReadCloser: response.Body, left: maxBody, done: func(err error) {
		server.leave()
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && in.Context().Err() == nil {
			server.failed(err)
		}
	}}
	return response, nil
}

// check says whether a request may be sent.
func (g *guard) check(in *http.Request, target endpoint) error {
	switch {
	case in.URL.User != nil || in.Host != "" && in.Host != in.URL.Host:
		return refuse("registry %s sends to a URL that pretends to be another", g.registry.name)
	case in.URL.Scheme == "http" && (g.plain || isLoopback(target.name)) && target.sameServer(g.registry):
	case in.URL.Scheme != "https":
		return refuse("registry %s sends to %s://%q: https alone is used", g.registry.name, in.URL.Scheme, target.name)
	}
	if !target.sameServer(g.registry) && (target.port != "443" || !sharesOwner(g.registry.name, target.name)) {
		return refuse("registry %s sends to host %q, port %s, which is not of the same owner: nothing is asked there", g.registry.name, target.name, target.port)
	}
	if in.Response == nil {
		return nil
	}
	// What follows was sent here by an answer.
	if in.Method != http.MethodGet && in.Method != http.MethodHead {
		return refuse("registry %s sends what it was told elsewhere, to %q", g.registry.name, target.name)
	}
	hops := 0
	for r := in.Response; r != nil && r.Request != nil; r = r.Request.Response {
		if hops++; hops > maxRedirects {
			return refuse("registry %s sends elsewhere more than %d times", g.registry.name, maxRedirects)
		}
	}
	return nil
}

// boundedBody ends an answer's body with an error where it is too long, and says once when it is done with.
type boundedBody struct {
	io.ReadCloser
	left int64
	done func(error)
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Whether it ends here is seen by reading on.
		p = p[:min(len(p), 1)]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, refuse("an answer is longer than %d bytes", int64(maxBody))
	}
	if err != nil {
		b.finish(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *boundedBody) Close() error {
	err := b.ReadCloser.Close()
	b.finish(nil)
	return err
}

func (b *boundedBody) finish(err error) {
	if b.done != nil {
		b.done(err)
		b.done = nil
	}
}
