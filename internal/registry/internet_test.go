package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// internet is where names lead to servers of the test, over TLS, and nowhere else.
type internet struct {
	t       *testing.T
	mu      sync.Mutex
	servers map[string]string // HOST:PORT to the server's address
	seen    []seenRequest
	plain   []string // the hosts that answer without TLS, of which the client was told
}

// seenRequest is what a server saw.
type seenRequest struct{ host, method, path, authorization, body string }

func newInternet(t *testing.T) *internet {
	t.Helper()
	return &internet{t: t, servers: map[string]string{}}
}

// serve answers at a host, port 443 if it has none.
func (i *internet) serve(host string, handler http.Handler) {
	i.t.Helper()
	if !strings.Contains(host, ":") {
		host += ":443"
	}
	start := httptest.NewTLSServer
	if slices.Contains(i.plain, host) {
		start = httptest.NewServer
	}
	server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		i.mu.Lock()
		i.seen = append(i.seen, seenRequest{strings.TrimSuffix(host, ":443"), r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body)})
		i.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	i.servers[host] = server.Listener.Addr().String()
}

// requests are those that a host saw.
func (i *internet) requests(host string) []seenRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(i.seen), func(s seenRequest) bool { return s.host != host })
}

// leaked says whether a host saw any of the secrets.
func (i *internet) leaked(host string, secrets ...string) bool {
	return slices.ContainsFunc(i.requests(host), func(s seenRequest) bool {
		return s.authorization != "" || slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(s.body+s.path, secret) })
	})
}

func (i *internet) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	address, ok := i.servers[hostPort]
	if !ok {
		return nil, fmt.Errorf("nobody answers at %s", hostPort)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// client is a client of this internet that does not wait.
func (i *internet) client() *Client {
	c, err := NewClient(Options{Rate: 1e6, PlainHTTP: i.plain})
	if err != nil {
		i.t.Fatal(err)
	}
	transport := newTransport(nil)
	transport.DialContext = i.dial
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	c.transport = transport
	return c
}

// push writes to a host of this internet, past its login.
func (i *internet) push(handler http.Handler, repository, tag string, what remote.Taggable) {
	i.t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	_, path, _ := strings.Cut(repository, "/")
	repo, err := name.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/" + path)
	if err != nil {
		i.t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(repo.Tag(tag), what)
	case v1.Image:
		err = remote.Write(repo.Tag(tag), what)
	default:
		err = remote.Put(repo.Tag(tag), what)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

func newRegistry() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// image is an image with two layers of its own and a command.
func image(t *testing.T) v1.Image {
	t.Helper()
	made, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	file, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Config.Cmd = []string{"/serve"}
	made, err = mutate.ConfigFile(made, file)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// index is an index of the images, each for a platform of its own.
func index(images ...v1.Image) v1.ImageIndex {
	made := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for n, image := range images {
		made = mutate.AppendManifests(made, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: fmt.Sprintf("arch%d", n)}},
		})
	}
	return made
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

const (
	user, password = "puller", "hunter2"
	// basic is what user and password are in a header.
	basic = "Basic cHVsbGVyOmh1bnRlcjI="
)

// dockerConfig holds user and password for hosts.
func dockerConfig(hosts ...string) []byte {
	entries := make([]string, len(hosts))
	for n, host := range hosts {
		entries[n] = fmt.Sprintf("%q: {\"username\": %q, \"password\": %q}", host, user, password)
	}
	return []byte(`{"auths": {` + strings.Join(entries, ",") + `}}`)
}

func access(t *testing.T, config []byte, hosts ...string) *Access {
	t.Helper()
	a, err := NewAccess(hosts, config)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// loginWith lets in whoever has a token of the realm's, and says where that is.
func loginWith(realm string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a-token" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenService gives a token to user and password.
var tokenService = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != basic {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, `{"token": "a-token"}`)
})
