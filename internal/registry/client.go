package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"modelrights.dev/modelrights/internal/images"
)

const (
	// requestRate and requestBurst bound what one server is asked, a second and at once.
	requestRate  = 20
	requestBurst = 40

	// maxPullers bounds the repositories for which a login is kept.
	maxPullers = 4096
	// maxCached bounds the manifests that are kept, of some 2 KiB each.
	maxCached = 16384
)

// Client reads registries. It is safe for concurrent use.
type Client struct {
	servers   *servers
	transport http.RoundTripper
	timeout   time.Duration
	plainHTTP map[string]bool // hosts in normal form
	flights   singleflight.Group
	contents  *lru.Cache // of contentKey to *content

	mu      sync.Mutex
	pullers *lru.Cache // of pullerKey to *remote.Puller
}

// Options change how a client behaves; the zero value is for production.
type Options struct {
	// Rate is how many requests a second one server gets, 20 if it is zero.
	Rate rate.Limit
	// Clock tells how long to leave a server alone; nil is the real one.
	Clock clock.PassiveClock
	// RootCAs are whom registries' certificates have to come from; nil is the system's.
	RootCAs *x509.CertPool
	// PlainHTTP are registries, HOST:PORT, that may be asked without TLS. They are asked anonymously: credentials do not
	// travel in the clear. Registries at loopback addresses may always be.
	PlainHTTP []string
}

// NewClient returns a client that has read nothing yet. The error names what is no HOST:PORT.
func NewClient(o Options) (*Client, error) {
	plainHTTP := map[string]bool{}
	for _, given := range o.PlainHTTP {
		host := normalHost(given)
		if _, port, err := net.SplitHostPort(host); err != nil || port == "" {
			return nil, fmt.Errorf("registry %q without TLS: write HOST:PORT, with a port other than 443", given)
		}
		plainHTTP[host] = true
	}
	if o.Rate == 0 {
		o.Rate = requestRate
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Client{
		servers:   &servers{rate: o.Rate, burst: requestBurst, clock: o.Clock},
		transport: newTransport(o.RootCAs),
		timeout:   requestTimeout,
		plainHTTP: plainHTTP,
		contents:  lru.New(maxCached),
		pullers:   lru.New(maxPullers),
	}, nil
}

type pullerKey struct {
	repository  string
	credentials [sha256.Size]byte
}

// puller reads one repository, in normal form, with what an access has for it. It keeps its login.
func (c *Client) puller(a *Access, repository string) (*remote.Puller, name.Repository, error) {
	host := hostOf(repository)
	if !a.Allows(host) {
		return nil, name.Repository{}, fmt.Errorf("host %q: %w", host, ErrNotAllowed)
	}
	repo, err := repositoryOf(repository, c.plainHTTP[host])
	if err != nil {
		return nil, name.Repository{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := pullerKey{repository: repository, credentials: a.id}
	if known, ok := c.pullers.Get(key); ok {
		if puller, ok := known.(*remote.Puller); ok {
			return puller, repo, nil
		}
	}
	plain, auth := c.plainHTTP[host], a.authenticator(repository)
	if plain {
		auth = authn.Anonymous
	}
	puller, err := remote.NewPuller(
		remote.WithTransport(&guard{registry: endpointOf(&url.URL{Scheme: "https", Host: repo.RegistryStr()}), plain: plain, servers: c.servers, next: c.transport, timeout: c.timeout}),
		remote.WithAuth(auth),
		remote.WithUserAgent("modelrights-operator"),
		remote.WithPageSize(tagPage),
		// Retries are the caller's business, who knows of more than one request.
		remote.WithRetryStatusCodes(),
		remote.WithRetryPredicate(func(error) bool { return false }),
	)
	if err != nil {
		return nil, name.Repository{}, fmt.Errorf("reading %s: %w", repository, err)
	}
	c.pullers.Add(key, puller)
	return puller, repo, nil
}

// forget makes the next request log in anew.
func (c *Client) forget(a *Access, repository string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pullers.Remove(pullerKey{repository: repository, credentials: a.id})
}

// repositoryOf is a repository in normal form as go-containerregistry names it.
func repositoryOf(repository string, plain bool) (name.Repository, error) {
	text := images.Reference{Repository: repository}.String()
	options := []name.Option{name.StrictValidation}
	host, _, _ := strings.Cut(text, "/")
	if plain || isLoopback(endpointOf(&url.URL{Scheme: "https", Host: host}).name) {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(text, options...)
	if err != nil {
		return name.Repository{}, refuse("%q is no repository", repository)
	}
	return repo, nil
}
