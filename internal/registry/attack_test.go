package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// attacker is a host that belongs to somebody else than the registry.
const attacker = "registry.attacker.example.net"

// TestRealmOfTheAttackers: a registry says that credentials are exchanged for tokens at another host.
func TestRealmOfTheAttackers(t *testing.T) {
	tests := map[string]struct{ registry, realm string }{
		"another owner's":                     {host, "https://" + attacker + "/token"},
		"another owner's, that looks alike":   {host, "https://registry.example.com." + attacker + "/token"},
		"another tenant of a shared suffix":   {"acme.github.io", "https://attacker.github.io/token"},
		"the suffix itself":                   {"acme.github.io", "https://github.io/token"},
		"another Service of the cluster":      {"registry.models.svc.cluster.local", "https://token.attacker.svc.cluster.local/token"},
		"another Service, short":              {"registry.models.svc", "https://token.attacker.svc/token"},
		"a Service of the same namespace":     {"registry.models.svc", "https://token.models.svc/token"},
		"an address":                          {host, "https://192.0.2.7/token"},
		"an address near the registry's":      {"192.0.2.6", "https://192.0.2.7/token"},
		"the metadata service":                {host, "https://169.254.169.254/token"},
		"without TLS":                         {host, "http://" + host + "/token"},
		"without TLS at a sibling":            {host, "http://auth.example.com/token"},
		"another port of the registry":        {host, "https://" + host + ":8443/token"},
		"another port of a sibling":           {host, "https://auth.example.com:8443/token"},
		"with a user name that looks alike":   {host, "https://" + host + "@" + attacker + "/token"},
		"with a user name, at the registry":   {host, "https://somebody:else@" + host + "/token"},
		"a file":                              {host, "file:///etc/passwd"},
		"Docker Hub's, for somebody else":     {host, "https://auth.docker.io/token"},
		"somebody else's, for Docker Hub":     {"docker.io", "https://" + attacker + "/token"},
		"of a single name, another":           {"registry", "https://token/token"},
		"of one label below the registry's":   {"co.uk", "https://attacker.co.uk/token"},
		"the same name under another suffix":  {"registry.example.co.uk", "https://registry.attacker.co.uk/token"},
		"the same name as another's Service":  {"registry", "https://registry.attacker.svc/token"},
		"a sibling by a name nobody can have": {"registry.corp", "https://attacker.corp/token"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			net := newInternet(t)
			endpoint := strings.Replace(tc.registry, "docker.io", "index.docker.io", 1)
			net.serve(endpoint, loginWith(tc.realm, newRegistry()))
			realm, err := url.Parse(tc.realm)
			if err != nil {
				t.Fatal(err)
			}
			if realm.Host != "" && realm.Host != endpoint {
				net.serve(realm.Host, tokenService)
			}
			for _, credentials := range []string{
				string(dockerConfig(tc.registry)),
				fmt.Sprintf(`{"auths": {%q: {"identitytoken": "identity-secret"}}}`, tc.registry),
			} {
				a := access(t, []byte(credentials), tc.registry)
				if got, err := net.client().Resolve(t.Context(), a, tc.registry+"/models/chat", "v1"); !errors.Is(err, ErrUnreachable) {
					t.Errorf("got %+v, %v", got, err)
				}
			}
			if seen := net.requests(realm.Host); realm.Host != "" && realm.Host != endpoint && len(seen) > 0 {
				t.Errorf("%s was asked: %+v", realm.Host, seen)
			}
			if net.leaked(endpoint, password, "identity-secret") {
				t.Errorf("credentials left: %+v", net.requests(endpoint))
			}
		})
	}
}

// TestRedirectToTheAttackers: a registry, or its token service, sends elsewhere.
func TestRedirectToTheAttackers(t *testing.T) {
	for name, at := range map[string]string{
		"a ping": "GET /v2/", "a tag": "HEAD /v2/models/chat/manifests/v1", "a manifest": "GET /v2/models/chat/manifests/",
		"a list": "GET /v2/models/chat/tags/list", "a token": "GET /token", "a configuration": "GET /v2/models/chat/blobs/",
	} {
		for elsewhere, target := range map[string]string{
			"another owner":    "https://" + attacker,
			"the metadata":     "https://169.254.169.254",
			"plain http":       "http://" + host,
			"another port":     "https://" + host + ":8443",
			"another of its":   "https://cdn.example.com",
			"a user's name":    "https://" + host + "@" + attacker,
			"a relative place": "//" + attacker,
		} {
			t.Run(name+" to "+elsewhere, func(t *testing.T) {
				net, server := newInternet(t), newRegistry()
				mux := http.NewServeMux()
				mux.Handle("/v2/", loginWith("https://"+host+"/token", server))
				mux.Handle("/token", tokenService)
				net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.Method+" "+r.URL.Path, at) && (at != "GET /v2/" || r.URL.Path == "/v2/") {
						http.Redirect(w, r, target+r.URL.RequestURI(), http.StatusTemporaryRedirect)
						return
					}
					mux.ServeHTTP(w, r)
				}))
				others := []string{attacker, "169.254.169.254", host + ":8443", "cdn.example.com"}
				for _, other := range others {
					net.serve(other, mux)
				}
				net.push(server, repository, "v1", image(t))
				a := access(t, dockerConfig(host), host)
				client := net.client()
				_, resolveErr := client.Resolve(t.Context(), a, repository, "v1")
				_, listErr := client.Tags(t.Context(), a, repository)
				if elsewhere != "another of its" && name != "a configuration" && name != "a tag" && resolveErr == nil && listErr == nil {
					t.Error("nothing was refused")
				}
				for _, other := range others {
					if seen := net.requests(other); other != "cdn.example.com" && len(seen) > 0 {
						t.Errorf("%s was asked: %+v", other, seen)
					}
					if net.leaked(other, password, "a-token") {
						t.Errorf("credentials left for %s: %+v", other, net.requests(other))
					}
				}
			})
		}
	}
}

// TestIdentityTokenFollowsNoRedirect: what is posted to a token service is not posted elsewhere.
func TestIdentityTokenFollowsNoRedirect(t *testing.T) {
	net := newInternet(t)
	net.serve(host, loginWith("https://auth.example.com/token", newRegistry()))
	net.serve("auth.example.com", http.RedirectHandler("https://cdn.example.com/token", http.StatusTemporaryRedirect))
	net.serve("cdn.example.com", tokenService)
	a := access(t, fmt.Appendf(nil, `{"auths": {%q: {"identitytoken": "identity-secret"}}}`, host), host)
	if _, err := net.client().Resolve(t.Context(), a, repository, "v1"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v", err)
	}
	if seen := net.requests("cdn.example.com"); len(seen) > 0 {
		t.Errorf("asked: %+v", seen)
	}
	if seen := net.requests("auth.example.com"); len(seen) == 0 || !strings.Contains(seen[0].body, "identity-secret") {
		t.Errorf("the registry's own token service saw %+v", seen)
	}
}

// TestRedirectsEnd: a registry sends around in circles.
func TestRedirectsEnd(t *testing.T) {
	net := newInternet(t)
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	if _, err := net.client().Tags(t.Context(), access(t, nil, host), repository); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v", err)
	}
	if seen := net.requests(host); len(seen) > maxRedirects+2 {
		t.Errorf("asked %d times", len(seen))
	}
}

// TestCredentialsAreForTheirHostAlone: the Secret of one licence is never used for the hosts of another, nor for a host
// that the licence does not name.
func TestCredentialsAreForTheirHostAlone(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	asking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		server.ServeHTTP(w, r)
	})
	for _, h := range []string{host, attacker, "cdn.example.com"} {
		net.serve(h, asking)
	}
	client := net.client()
	// One Secret with entries for everything, in a licence that names one host.
	config := dockerConfig(host, attacker, "cdn.example.com", "https://"+attacker+"/v1/")
	if _, err := client.Resolve(t.Context(), access(t, config, host), attacker+"/models/chat", "v1"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("error %v, want %v", err, ErrNotAllowed)
	}
	// A licence of the attacker's, which names its host and a Secret without an entry for it.
	if _, err := NewAccess([]string{attacker}, dockerConfig(host)); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("error %v, want %v", err, ErrNoCredentials)
	}
	// Both hosts in one licence, credentials for one of them.
	if _, err := client.Resolve(t.Context(), access(t, dockerConfig(host), host, attacker), attacker+"/models/chat", "v1"); !errors.Is(err, ErrDenied) {
		t.Errorf("error %v, want %v", err, ErrDenied)
	}
	for _, other := range []string{attacker, "cdn.example.com"} {
		if net.leaked(other, password) {
			t.Errorf("credentials left for %s: %+v", other, net.requests(other))
		}
	}
	// Logins that are kept belong to the credentials they were made with.
	if _, err := client.Resolve(t.Context(), access(t, dockerConfig(host), host), repository, "v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("with credentials: %v, want %v", err, ErrNotFound)
	}
	if _, err := client.Resolve(t.Context(), access(t, nil, host), repository, "v1"); !errors.Is(err, ErrDenied) {
		t.Errorf("without credentials, after somebody with them: %v, want %v", err, ErrDenied)
	}
}

// TestContentIsThatOfTheDigest: a registry answers differently twice.
func TestContentIsThatOfTheDigest(t *testing.T) {
	good, evil := image(t), image(t)
	goodRaw, _ := good.RawManifest()
	evilRaw, _ := evil.RawManifest()
	config, _ := good.RawConfigFile()
	serve := func(promised string, content []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Header().Set("Docker-Content-Digest", promised)
			switch {
			case strings.Contains(r.URL.Path, "/blobs/"):
				w.Write(config)
			case r.Method == http.MethodHead:
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			case strings.Contains(r.URL.Path, "/manifests/"):
				w.Write(content)
			}
		})
	}
	t.Run("HEAD promises what GET does not keep", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, serve(digestOf(t, good), evilRaw))
		if got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1"); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "other content") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("another content for a listed digest", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, serve(digestOf(t, good), evilRaw))
		if got, err := net.client().Read(t.Context(), access(t, nil, host), repository, digestOf(t, good)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("another content for a listed digest, of a type whose digest the library takes from a header", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", string(types.DockerManifestSchema1Signed))
				w.Header().Set("Docker-Content-Digest", digestOf(t, good))
				w.Write(evilRaw)
			}
		}))
		if got, err := net.client().Read(t.Context(), access(t, nil, host), repository, digestOf(t, good)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("no promise, another configuration", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, serve("", evilRaw)) // its configuration has another digest
		got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
		if err != nil || got.Digest != digestOf(t, evil) || got.Manifests[0].Config != "" || got.Manifests[0].Data {
			t.Errorf("got %+v, %v; want the manifest alone", got, err)
		}
	})
	t.Run("the same twice", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, serve(digestOf(t, good), goodRaw))
		if got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1"); err != nil || got.Manifests[0].Config == "" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("what another repository keeps", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, serve(digestOf(t, good), goodRaw))
		net.serve(attacker, serve(digestOf(t, good), evilRaw))
		client, a := net.client(), access(t, nil, host, attacker)
		if _, err := client.Resolve(t.Context(), a, repository, "v1"); err != nil {
			t.Fatal(err)
		}
		if got, err := client.Resolve(t.Context(), a, attacker+"/models/chat", "v1"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %+v, %v: the attacker does not have that content", got, err)
		}
	})
}

// TestForeignLayersAreNotFollowed: a manifest names URLs from which its layers are to be had.
func TestForeignLayersAreNotFollowed(t *testing.T) {
	net := newInternet(t)
	hex := strings.Repeat("a", 64)
	text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:%s","urls":["https://%s/config"]},
		"layers":[{"mediaType":%q,"size":100000,"digest":"sha256:%s","urls":["https://%s/layer","http://169.254.169.254/"]}]}`,
		types.DockerManifestSchema2, hex, attacker, types.DockerForeignLayer, hex, attacker)
	net.serve(host, answerManifest(types.DockerManifestSchema2, text))
	net.serve(attacker, http.NotFoundHandler())
	got, err := net.client().Resolve(t.Context(), access(t, dockerConfig(host), host), repository, "v1")
	if err != nil || len(got.Manifests) != 1 || len(got.Manifests[0].Layers) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if seen := net.requests(attacker); len(seen) > 0 {
		t.Errorf("asked: %+v", seen)
	}
}

// TestPagesOfTheAttackers: a list of tags goes on elsewhere, or for ever.
func TestPagesOfTheAttackers(t *testing.T) {
	tests := map[string]struct {
		next  func(page int) string
		tags  func(page int) string
		fails bool
		most  int // requests
		names int
	}{
		"elsewhere":       {next: func(int) string { return "https://" + attacker + "/v2/models/chat/tags/list" }, fails: true, most: 2},
		"without TLS":     {next: func(int) string { return "http://" + host + "/v2/models/chat/tags/list" }, fails: true, most: 2},
		"the same page":   {next: func(int) string { return "/v2/models/chat/tags/list" }, tags: func(int) string { return `"v1"` }, most: 4, names: 1},
		"empty for ever":  {next: func(p int) string { return fmt.Sprintf("/v2/models/chat/tags/list?last=%d", p) }, tags: func(int) string { return "" }, most: maxTagPages + 2},
		"always new tags": {next: func(p int) string { return fmt.Sprintf("/v2/models/chat/tags/list?last=%d", p) }, tags: func(p int) string { return fmt.Sprintf("%q", fmt.Sprint("v", p)) }, most: maxTagPages + 2, names: maxTagPages},
		"too many tags": {next: func(p int) string { return fmt.Sprintf("/v2/models/chat/tags/list?last=%d", p) }, tags: func(p int) string {
			names := make([]string, 20000)
			for i := range names {
				names[i] = fmt.Sprintf("%q", fmt.Sprintf("p%d-%d", p, i))
			}
			return strings.Join(names, ",")
		}, most: 3, names: maxTagPages * tagPage},
		"tags that are none": {next: func(int) string { return "" }, tags: func(int) string {
			return `"", "a/b", "../../x", "v1@sha256:0", "` + strings.Repeat("x", 129) + `", "\u0000", ".hidden", "ok"`
		}, most: 2, names: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			net, page := newInternet(t), 0
			net.serve(attacker, http.NotFoundHandler())
			net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				page++
				if next := tc.next(page); next != "" {
					w.Header().Set("Link", "<"+next+">; rel=\"next\"")
				}
				tags := ""
				if tc.tags != nil {
					tags = tc.tags(page)
				}
				fmt.Fprintf(w, `{"tags": [%s]}`, tags)
			}))
			got, err := net.client().Tags(t.Context(), access(t, nil, host), repository)
			if (err != nil) != tc.fails || len(got.Names) != tc.names {
				t.Errorf("%d tags, %v", len(got.Names), err)
			}
			if n := len(net.requests(host)); n > tc.most {
				t.Errorf("asked %d times", n)
			}
			if seen := net.requests(attacker); len(seen) > 0 {
				t.Errorf("asked: %+v", seen)
			}
		})
	}
}

// TestAnswersAreNotRepeated: what a registry says may hold the credentials that it was sent.
func TestAnswersAreNotRepeated(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"in a refusal": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q,"detail":%q}]}`, r.Header.Get("Authorization"), password)
		},
		"in a failure": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, r.Header.Get("Authorization"), password)
		},
		"in a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+host+":1/?"+password+r.Header.Get("Authorization"), http.StatusFound)
		},
		"in a type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", password)
			fmt.Fprint(w, password)
		},
		"in a next page": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Link", password); fmt.Fprint(w, `{}`) },
	} {
		t.Run(name, func(t *testing.T) {
			net := newInternet(t)
			net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != basic {
					w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				answer(w, r)
			}))
			client, a := net.client(), access(t, dockerConfig(host), host)
			_, resolveErr := client.Resolve(t.Context(), a, repository, "v1")
			_, listErr := client.Tags(t.Context(), a, repository)
			text := fmt.Sprint(resolveErr, listErr)
			if resolveErr == nil || listErr == nil || strings.Contains(text, password) || strings.Contains(text, "cHVsbGVy") {
				t.Errorf("errors: %v; %v", resolveErr, listErr)
			}
		})
	}
	t.Run("a token", func(t *testing.T) {
		net := newInternet(t)
		net.serve(host, loginWith("https://auth.example.com/token", newRegistry()))
		net.serve("auth.example.com", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"tok": %q}`, password) }))
		_, err := net.client().Resolve(t.Context(), access(t, dockerConfig(host), host), repository, "v1")
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a Secret that is none", func(t *testing.T) {
		for _, config := range []string{password, `{"auths": "` + password + `"}`, `{"auths": {"registry.example.com": {"auth": "` + password + `"}}}`} {
			if _, err := NewAccess([]string{host}, []byte(config)); err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("error %v", err)
			}
		}
	})
}
