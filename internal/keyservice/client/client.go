// Package client is the node driver's end of what package protocol describes.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// The client's bounds in time. Kubelet gives the driver two minutes and then asks again.
const (
	// DefaultCallTimeout is how long one call may take unless the client is told otherwise.
	DefaultCallTimeout = 30 * time.Second
	// shortCallTimeout is how long a renewal or a report may take, the wait for its turn included: both are repeated.
	shortCallTimeout = 15 * time.Second
	dialTimeout      = 5 * time.Second
)

// Options say where the key service is and with what to call it.
type Options struct {
	// URL is the service's base, https://HOST[:PORT].
	URL string
	// CAFile holds the certificates that may have signed the service's, PEM. It is read again at every call.
	CAFile string
	// TokenFile holds the driver's token, of protocol.AudienceDriver. It is read again at every call, since kubelet renews it.
	TokenFile string
	// Timeout bounds one call for a key, from when it is made; 0 means DefaultCallTimeout.
	Timeout time.Duration
}

// Client calls the key service. It is safe for concurrent use and keeps connections.
type Client struct {
	options                  Options
	releases, renewals, ends endpoint

	mu        sync.Mutex
	ca        []byte
	transport *http.Transport
}

// New returns a client. The error is of the URL; files are not read yet.
func New(options Options) (*Client, error) {
	u, err := url.Parse(options.URL)
	if err != nil {
		return nil, fmt.Errorf("the key service's URL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the key service's URL must be https://HOST[:PORT], not %s", u.Redacted())
	}
	if options.Timeout == 0 {
		options.Timeout = DefaultCallTimeout
	}
	at := func(path string) endpoint {
		return endpoint{url: u.JoinPath(path).String(), slots: make(chan struct{}, protocol.MaxCallsPerNode)}
	}
	return &Client{
		options:  options,
		releases: at(protocol.ReleasePath), renewals: at(protocol.RenewPath), ends: at(protocol.ReportPath),
	}, nil
}

// endpoint is where one kind of call goes. Slots has an element for each call under way: protocol.MaxCallsPerNode at most,
// further ones wait.
type endpoint struct {
	url   string
	slots chan struct{}
}

// enter waits for a turn, as long as ctx allows.
func (e endpoint) enter(ctx context.Context) (leave func(), err error) {
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots }, nil
	case <-ctx.Done():
		return nil, unreachable("the call did not get its turn among this node's others", ctx.Err())
	}
}

// Release asks for the key of a volume. Every error is a *protocol.Error: a refusal of the service, or, temporary, that it could
// not be reached. The caller wipes the response.
//
// It makes at most protocol.MaxCallsPerNode calls at the same time. Others wait their turn, as long as ctx allows.
func (c *Client) Release(ctx context.Context, request *protocol.ReleaseRequest) (*protocol.ReleaseResponse, error) {
	leave, err := c.releases.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	status, content, err := c.call(ctx, c.releases, request)
	defer clear(content)
	if err != nil {
		return nil, err
	}
	return decodeRelease(status, content)
}

// Renew asks whether the key of a volume may stay longer. Every error is a *protocol.Error as those of Release are; after
// one nothing is known, and nothing changes.
func (c *Client) Renew(ctx context.Context, request *protocol.RenewRequest) (*protocol.RenewResponse, error) {
	var response protocol.RenewResponse
	if err := c.short(ctx, c.renewals, request, &response); err != nil {
		return nil, err
	}
	if response.Verdict == "" {
		return nil, unreachable("the key service's answer", errors.New("it holds no verdict"))
	}
	return &response, nil
}

// Report says what became of a key. A nil error means that the service took it; every other is a *protocol.Error as those
// of Release are.
func (c *Client) Report(ctx context.Context, request *protocol.ReportRequest) error {
	return c.short(ctx, c.ends, request, &protocol.ReportResponse{})
}

// short makes a call whose answer holds no secret.
func (c *Client) short(ctx context.Context, e endpoint, request, response any) error {
	ctx, cancel := context.WithTimeout(ctx, shortCallTimeout)
	defer cancel()
	leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	status, content, err := c.call(ctx, e, request)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return decodeRefusal(status, content)
	}
	if json.Unmarshal(content, response) != nil {
		return unreachable("the key service's answer", errors.New("it is no JSON"))
	}
	return nil
}

// call makes one call and returns the answer, which may hold a key.
func (c *Client) call(ctx context.Context, e endpoint, request any) (status int, content []byte, err error) {
	token, err := os.ReadFile(c.options.TokenFile)
	if err != nil {
		return 0, nil, unreachable("the node driver's own token cannot be read", err)
	}
	transport, err := c.currentTransport()
	if err != nil {
		return 0, nil, unreachable("the key service's CA cannot be read", err)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return 0, nil, unreachable("the call cannot be encoded", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, unreachable("the call cannot be made", err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	// Not sent; it tells net/http that the call may be repeated on a new connection when the kept one turns out closed,
	// as after a restart of the operator.
	req.Header["Idempotency-Key"] = nil

	// The transport is used without http.Client: a redirect must not carry the tokens elsewhere.
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, unreachable("the key service cannot be reached", err)
	}
	content, err = io.ReadAll(io.LimitReader(resp.Body, protocol.MaxResponseBytes+1))
	_ = resp.Body.Close() // everything that counts has been read
	if err != nil {
		return 0, content, unreachable("the key service's answer broke off", err)
	}
	if len(content) > protocol.MaxResponseBytes {
		return 0, content, unreachable("the key service's answer", errors.New("it is longer than it may be"))
	}
	return resp.StatusCode, content, nil
}

// decodeRelease reads an answer. Content that makes no sense is not quoted: it may hold a key.
func decodeRelease(status int, content []byte) (*protocol.ReleaseResponse, error) {
	if status != http.StatusOK {
		return nil, decodeRefusal(status, content)
	}
	var response protocol.ReleaseResponse
	if json.Unmarshal(content, &response) != nil || len(response.Files[v1alpha1.KeyFileName]) == 0 {
		response.Wipe()
		return nil, unreachable("the key service's answer", errors.New("it holds no key file"))
	}
	return &response, nil
}

// decodeRefusal reads every other answer.
func decodeRefusal(status int, content []byte) *protocol.Error {
	var refusal protocol.Error
	if json.Unmarshal(content, &refusal) != nil || refusal.Message == "" {
		return unreachable("the key service's answer", fmt.Errorf("HTTP status %d", status))
	}
	if refusal.Reason == "" {
		return unreachable("the key service and the node driver are of different versions", errors.New(refusal.Message))
	}
	return &refusal
}

func unreachable(message string, cause error) *protocol.Error {
	return &protocol.Error{
		Reason: v1alpha1.ReasonKeyServiceUnreachable, Temporary: true, Cause: cause,
		Message: fmt.Sprintf("%s: %v", message, cause),
		Remedy:  protocol.RemedyRetry,
	}
}

// currentTransport returns the transport that trusts the CA file as it is now.
func (c *Client) currentTransport() (*http.Transport, error) {
	ca, err := os.ReadFile(c.options.CAFile)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil && bytes.Equal(ca, c.ca) {
		return c.transport, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", c.options.CAFile)
	}
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
	c.ca = ca
	c.transport = &http.Transport{
		// No proxy: tokens and keys travel between two pods of the cluster.
		Proxy:               nil,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool},
		TLSHandshakeTimeout: dialTimeout,
		// Releases, renewals and reports.
		MaxIdleConnsPerHost:    3 * protocol.MaxCallsPerNode,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}
	return c.transport, nil
}
