package registry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// noted is a transport that keeps the last request and answers nothing.
type noted struct{ last *http.Request }

func (n *noted) RoundTrip(r *http.Request) (*http.Response, error) {
	n.last = r
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func newGuard(registry string) (*guard, *noted) {
	next := &noted{}
	return &guard{
		registry: endpointOf(&url.URL{Scheme: "https", Host: registry}), next: next, timeout: time.Minute,
		servers: &servers{rate: 1e6, burst: 1e6, clock: clock.RealClock{}},
	}, next
}

func request(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", basic)
	return r
}

// redirected is the request to which an answer of the first led.
func redirected(t *testing.T, method string, hops ...string) *http.Request {
	t.Helper()
	last := request(t, method, hops[0])
	for _, hop := range hops[1:] {
		next := request(t, method, hop)
		next.Response = &http.Response{Request: last}
		last = next
	}
	return last
}

// TestGuard tests the guard by itself: some of what it refuses the library refuses too, as long as it does.
func TestGuard(t *testing.T) {
	tests := map[string]struct {
		registry string
		plain    bool
		hops     []string
		method   string
		refused  bool
		bare     bool // without credentials
	}{
		"the registry":                          {hops: []string{"https://registry.example.com/v2/"}},
		"its default port":                      {hops: []string{"https://registry.example.com:443/v2/"}},
		"in capitals":                           {hops: []string{"https://REGISTRY.example.com/v2/"}},
		"with a dot at its end":                 {hops: []string{"https://registry.example.com./v2/"}},
		"a sibling":                             {hops: []string{"https://auth.example.com/token"}},
		"somebody else":                         {hops: []string{"https://" + attacker + "/token"}, refused: true},
		"without TLS":                           {hops: []string{"http://registry.example.com/v2/"}, refused: true},
		"without TLS, at the port of TLS":       {hops: []string{"http://registry.example.com:443/v2/"}, refused: true},
		"a sibling without TLS":                 {hops: []string{"http://auth.example.com:443/token"}, refused: true},
		"another protocol":                      {hops: []string{"ftp://registry.example.com:443/v2/"}, refused: true},
		"with a user":                           {hops: []string{"https://a:b@registry.example.com/v2/"}, refused: true},
		"loopback, without TLS":                 {registry: "127.0.0.1:5000", hops: []string{"http://127.0.0.1:5000/v2/"}},
		"localhost, without TLS":                {registry: "localhost:5000", hops: []string{"http://localhost:5000/v2/"}},
		"IPv6 loopback, without TLS":            {registry: "[::1]:5000", hops: []string{"http://[::1]:5000/v2/"}},
		"another port of loopback":              {registry: "127.0.0.1:5000", hops: []string{"http://127.0.0.1:8080/v2/"}, refused: true},
		"another loopback":                      {registry: "127.0.0.1:5000", hops: []string{"http://127.0.0.2:5000/v2/"}, refused: true},
		"loopback, for another registry":        {hops: []string{"http://127.0.0.1:443/v2/"}, refused: true},
		"a private address, without TLS":        {registry: "10.0.0.7:5000", hops: []string{"http://10.0.0.7:5000/v2/"}, refused: true},
		"one that is said to have no TLS":       {registry: "10.0.0.7:5000", plain: true, hops: []string{"http://10.0.0.7:5000/v2/"}},
		"another port of that one":              {registry: "10.0.0.7:5000", plain: true, hops: []string{"http://10.0.0.7:5001/v2/"}, refused: true},
		"that one, for another registry":        {plain: true, hops: []string{"http://10.0.0.7:5000/v2/"}, refused: true},
		"a private address":                     {registry: "10.0.0.7:5000", hops: []string{"https://10.0.0.7:5000/v2/"}},
		"a name below localhost":                {registry: "registry.localhost:5000", hops: []string{"http://registry.localhost:5000/v2/"}, refused: true},
		"redirected within the registry":        {hops: []string{"https://registry.example.com/v2/a", "https://registry.example.com/v2/b"}},
		"redirected to a sibling":               {hops: []string{"https://registry.example.com/v2/a", "https://cdn.example.com/b"}, bare: true},
		"redirected to another port":            {hops: []string{"https://registry.example.com/v2/a", "https://registry.example.com:8443/b"}, refused: true},
		"redirected from a sibling":             {hops: []string{"https://auth.example.com/token", "https://registry.example.com/v2/"}, bare: true},
		"redirected to somebody else":           {hops: []string{"https://registry.example.com/v2/a", "https://" + attacker + "/b"}, refused: true},
		"redirected to plain http":              {hops: []string{"https://registry.example.com/v2/a", "http://registry.example.com/b"}, refused: true},
		"posted":                                {method: http.MethodPost, hops: []string{"https://auth.example.com/token"}},
		"posted, redirected":                    {method: http.MethodPost, hops: []string{"https://auth.example.com/token", "https://auth.example.com/other"}, refused: true},
		"redirected as often as may be":         {hops: []string{"https://registry.example.com/1", "https://registry.example.com/2", "https://registry.example.com/3", "https://registry.example.com/4"}},
		"redirected once more":                  {hops: []string{"https://registry.example.com/1", "https://registry.example.com/2", "https://registry.example.com/3", "https://registry.example.com/4", "https://registry.example.com/5"}, refused: true},
		"redirected by way of somebody's cloud": {registry: "acme.azurecr.io", hops: []string{"https://acme.azurecr.io/v2/a", "https://acme.blob.core.windows.net/a"}, refused: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.registry == "" {
				tc.registry = host
			}
			if tc.method == "" {
				tc.method = http.MethodGet
			}
			g, next := newGuard(tc.registry)
			g.plain = tc.plain
			response, err := g.RoundTrip(redirected(t, tc.method, tc.hops...))
			if (err != nil) != tc.refused || tc.refused && next.last != nil {
				t.Fatalf("error %v, sent %v; refused: %t", err, next.last, tc.refused)
			}
			if err != nil {
				return
			}
			response.Body.Close()
			if got := next.last.Header.Get("Authorization") == ""; got != tc.bare {
				t.Errorf("without credentials: %t, want %t", got, tc.bare)
			}
		})
	}
}

func TestGuardLeavesTheRequestAsItWas(t *testing.T) {
	g, _ := newGuard(host)
	in := redirected(t, http.MethodGet, "https://registry.example.com/v2/a", "https://cdn.example.com/b")
	if response, err := g.RoundTrip(in); err == nil {
		response.Body.Close()
	}
	if !strings.HasPrefix(in.Header.Get("Authorization"), "Basic ") {
		t.Error("a RoundTripper must not change the request")
	}
}
