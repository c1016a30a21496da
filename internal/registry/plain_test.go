package registry

import (
	"net/http"
	"strings"
	"testing"
)

func TestPlainHTTP(t *testing.T) {
	const plain, asking, other = "registry.internal.example:5000", "asking.internal.example:5000", "other.internal.example:5000"
	net, server := newInternet(t), newRegistry()
	net.plain = []string{plain, asking}
	net.serve(plain, server)
	net.serve(asking, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	net.servers[other] = net.servers[plain]
	made := image(t)
	net.push(server, plain+"/models/chat", "v1", made)
	client, allowed := net.client(), access(t, dockerConfig(plain, asking, other), plain, asking, other)

	got, err := client.Resolve(t.Context(), allowed, plain+"/models/chat", "v1")
	if err != nil || got.Digest != digestOf(t, made) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := client.Resolve(t.Context(), allowed, asking+"/models/chat", "v1"); err == nil || len(net.requests(asking)) == 0 {
		t.Errorf("error %v after %d requests, want the registry's refusal", err, len(net.requests(asking)))
	}
	for _, host := range []string{plain, asking} {
		for _, seen := range net.requests(host) {
			if seen.authorization != "" {
				t.Errorf("credentials were sent in the clear: %+v", seen)
			}
		}
	}
	if _, err := client.Resolve(t.Context(), allowed, other+"/models/chat", "v1"); err == nil {
		t.Error("a registry of which nobody said so is asked without TLS")
	}
}

func TestPlainHTTPRefuses(t *testing.T) {
	for _, host := range []string{"", "registry.example.com", "registry.example.com:443", "http://registry.example.com:80", "registry.example.com:5000/models"} {
		if _, err := NewClient(Options{PlainHTTP: []string{host}}); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%q: %v", host, err)
		}
	}
}
