package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

func TestCredentials(t *testing.T) {
	entry := func(server, user string) string {
		return fmt.Sprintf("%q: {\"auth\": %q}", server, base64.StdEncoding.EncodeToString([]byte(user+":secret")))
	}
	tests := map[string]struct {
		entries    []string
		hosts      []string
		repository string
		want       string // the user; empty: anonymous
		err        error
	}{
		"a host":                       {entries: []string{entry("registry.example.com", "a")}, repository: repository, want: "a"},
		"a host in capitals":           {entries: []string{entry("Registry.Example.COM", "a")}, repository: repository, want: "a"},
		"the default port":             {entries: []string{entry("registry.example.com:443", "a")}, repository: repository, want: "a"},
		"a URL":                        {entries: []string{entry("https://registry.example.com/v2/", "a")}, repository: repository, want: "a"},
		"a path of the host":           {entries: []string{entry("registry.example.com/models", "a")}, repository: repository, want: "a"},
		"the closest path":             {entries: []string{entry("registry.example.com", "a"), entry("registry.example.com/models/chat", "b"), entry("registry.example.com/models", "c")}, repository: repository, want: "b"},
		"another path":                 {entries: []string{entry("registry.example.com/other", "a")}, repository: repository},
		"a path that begins the same":  {entries: []string{entry("registry.example.com/mod", "a")}, repository: repository},
		"another port":                 {entries: []string{entry("registry.example.com:5000", "a")}, repository: repository, err: ErrNoCredentials},
		"another host":                 {entries: []string{entry("registry.example.net", "a")}, repository: repository, err: ErrNoCredentials},
		"a host below":                 {entries: []string{entry("eu.registry.example.com", "a")}, repository: repository, err: ErrNoCredentials},
		"a host above":                 {entries: []string{entry("example.com", "a")}, repository: repository, err: ErrNoCredentials},
		"a wildcard":                   {entries: []string{entry("*.example.com", "a")}, repository: repository, err: ErrNoCredentials},
		"Docker Hub, as Docker writes": {entries: []string{entry("https://index.docker.io/v1/", "a")}, hosts: []string{"docker.io"}, repository: "docker.io/acme/chat", want: "a"},
		"Docker Hub by another name":   {entries: []string{entry("registry-1.docker.io", "a")}, hosts: []string{"docker.io"}, repository: "docker.io/acme/chat", want: "a"},
		"IPv6":                         {entries: []string{entry("[::1]:5000", "a")}, hosts: []string{"[::1]:5000"}, repository: "[::1]:5000/chat", want: "a"},
		"a single name with a port":    {entries: []string{entry("registry:5000", "a")}, hosts: []string{"registry:5000"}, repository: "registry:5000/chat", want: "a"},
		"a single name":                {entries: []string{entry("registry", "a")}, hosts: []string{"registry"}, repository: "registry/chat", want: "a"},
		"an empty entry":               {entries: []string{`"registry.example.com": {}`}, repository: repository, err: ErrNoCredentials},
		"nothing":                      {repository: repository, err: ErrNoCredentials},
		"an empty name":                {entries: []string{entry("", "a")}, repository: repository, err: ErrNoCredentials},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.hosts == nil {
				tc.hosts = []string{host}
			}
			config := `{"auths": {`
			for i, e := range tc.entries {
				if i > 0 {
					config += ","
				}
				config += e
			}
			a, err := NewAccess(tc.hosts, []byte(config+"}}"))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			got, err := authn.Authorization(context.Background(), a.authenticator(tc.repository))
			if err != nil || got.Username != tc.want {
				t.Errorf("user %q, %v, want %q", got.Username, err, tc.want)
			}
		})
	}
}

func TestSharesOwner(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"registry.example.com", "auth.example.com", true},
		{"registry.example.com", "example.com", true},
		{"registry.gitlab.com", "gitlab.com", true},
		{"index.docker.io", "auth.docker.io", true},
		{"registry.digitalocean.com", "api.digitalocean.com", true},
		{"registry.example.co.uk", "auth.example.co.uk", true},
		{"registry.example.com", "registry.example.net", false},
		{"registry.example.com", "example.com.attacker.net", false},
		{"a.co.uk", "b.co.uk", false},
		{"a.github.io", "b.github.io", false},
		{"co.uk", "co.uk", false},
		{"com", "com", false},
		{"a.svc.cluster.local", "b.svc.cluster.local", false},
		{"registry.corp", "token.corp", false},
		{"registry", "registry", false},
		{"10.0.0.1", "10.0.0.1", false},
		{"::1", "::1", false},
		{"", "", false},
		{".", ".", false},
		{"registry.example.com.", "auth.example.com", false},
	}
	for _, tc := range tests {
		if got := sharesOwner(tc.a, tc.b); got != tc.want {
			t.Errorf("%q and %q: %t", tc.a, tc.b, got)
		}
	}
}

func FuzzNormalHost(f *testing.F) {
	for _, seed := range []string{"registry.example.com", "Docker.IO", "[::1]:5000", "a:0443", "registry", "::", "a/b", "x@y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		normal := normalHost(host)
		if again := normalHost(normal); normal != "" && again != normal {
			t.Errorf("%q: %q, then %q", host, normal, again)
		}
	})
}
