package registry

import (
	"errors"
	"net/http"
	"testing"
)

func TestLayers(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	private := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basic {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		server.ServeHTTP(w, r)
	})
	net.serve(host, server)
	net.serve("private.example.com", private)
	net.serve("governed.example.com", server)
	net.serve(attacker, server)
	net.serve("index.docker.io", server)
	made := image(t)
	for _, h := range []string{host, "private.example.com", "governed.example.com", attacker} {
		net.push(server, h+"/tenant/copy", "v1", made)
	}
	resolver, err := NewResolver(net.client(), []string{"governed.example.com", "docker.io"})
	if err != nil {
		t.Fatal(err)
	}
	resolver.Set("acme", access(t, nil, host))
	resolver.Set("beta", access(t, nil, "private.example.com"))
	resolver.Set("gamma", access(t, dockerConfig("private.example.com"), "private.example.com", host))
	digest := digestOf(t, made)

	tests := map[string]struct {
		image string
		want  error
	}{
		"on a licence's host":             {host + "/tenant/copy@" + digest, nil},
		"with a tag, too":                 {host + "/tenant/copy:v1@" + digest, nil},
		"with credentials of one licence": {"private.example.com/tenant/copy@" + digest, nil},
		"on a governed host":              {"governed.example.com/tenant/copy@" + digest, nil},
		"on Docker Hub, anonymously":      {"docker.io/tenant/copy@" + digest, ErrNotAllowed},
		"on a host that nobody named":     {attacker + "/tenant/copy@" + digest, ErrNotAllowed},
		"by tag alone":                    {host + "/tenant/copy:v1", ErrNotAllowed},
		"by the ID of an image":           {digest, ErrNotAllowed},
		"what is no reference":            {"https://" + host, ErrNotAllowed},
		"another algorithm":               {host + "/tenant/copy@sha512:" + digest[7:] + digest[7:], ErrUnreachable},
		"not there":                       {host + "/tenant/other@" + digest, ErrNotFound},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := resolver.Layers(t.Context(), tc.image)
			if !errors.Is(err, tc.want) || err == nil && (len(got) != 1 || got[0].Digest != digest) {
				t.Errorf("got %+v, %v, want %v", got, err, tc.want)
			}
		})
	}
	if seen := net.requests(attacker); len(seen) > 0 {
		t.Errorf("asked: %+v", seen)
	}
	if net.leaked(host, password) {
		t.Error("credentials for one host were sent to another")
	}

	resolver.Set("beta", nil)
	resolver.Set("gamma", nil)
	if _, err := resolver.Layers(t.Context(), "private.example.com/tenant/copy@"+digest); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("after its licences went: %v", err)
	}
	if _, err := resolver.Layers(t.Context(), host+"/tenant/copy@"+digest); err != nil {
		t.Errorf("of the licence that stays: %v", err)
	}
}
