package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/images"
)

// Layers says what a running image consists of, for copies.Index.Match.
type Layers interface {
	// Layers reads the manifests of an image: the one that a reference HOST/PATH@sha256:HEX names or, of an index, those
	// of its platforms. The error wraps ErrNotAllowed where no licence and no governed repository names the host, where
	// it is Docker Hub and no licence has credentials, or
	// where the reference names no repository and digest; asking again is no use then before a licence changes. After
	// any other error it is worth trying again later: a *BackoffError says when.
	Layers(ctx context.Context, image string) ([]copies.Manifest, error)
}

const (
	// maxTried is how many licences' credentials are tried for a running image.
	maxTried = 3

	// dockerHub counts what anonymous users read by address, which the operator may share with nodes: running images are
	// read there with credentials or not at all, so that nobody's pulls are used up.
	dockerHub = "docker.io"
)

// Resolver reads running images on the hosts of all licences, with the credentials that a licence has for its hosts. It
// is safe for concurrent use.
type Resolver struct {
	client   *Client
	governed *Access

	mu       sync.RWMutex
	licenses map[string]*Access
	byHost   map[string]*hostLicenses
}

// hostLicenses are the licences that name a host, and those of them that have credentials for it, by name.
type hostLicenses struct{ naming, able []string }

var _ Layers = (*Resolver)(nil)

// NewResolver returns a resolver that knows no licence yet. The hosts of governed repositories are read anonymously.
func NewResolver(client *Client, governedHosts []string) (*Resolver, error) {
	governed, err := NewAccess(governedHosts, nil)
	if err != nil {
		return nil, err
	}
	return &Resolver{client: client, governed: governed, licenses: map[string]*Access{}, byHost: map[string]*hostLicenses{}}, nil
}

// Set gives a licence its access; nil takes it away.
func (r *Resolver) Set(license string, access *Access) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before := r.licenses[license]; before != nil {
		for _, host := range before.hosts {
			of := r.byHost[host]
			if of == nil {
				continue
			}
			of.naming, of.able = without(of.naming, license), without(of.able, license)
			if len(of.naming) == 0 {
				delete(r.byHost, host)
			}
		}
		delete(r.licenses, license)
	}
	if access == nil {
		return
	}
	r.licenses[license] = access
	for _, host := range access.hosts {
		of := r.byHost[host]
		if of == nil {
			of = &hostLicenses{}
			r.byHost[host] = of
		}
		of.naming = with(of.naming, license)
		if access.has(host) {
			of.able = with(of.able, license)
		}
	}
}

// with adds a name to sorted ones.
func with(names []string, name string) []string {
	if i, there := slices.BinarySearch(names, name); !there {
		return slices.Insert(names, i, name)
	}
	return names
}

// without takes a name from sorted ones.
func without(names []string, name string) []string {
	if i, there := slices.BinarySearch(names, name); there {
		return slices.Delete(names, i, i+1)
	}
	return names
}

// Layers implements the interface Layers.
func (r *Resolver) Layers(ctx context.Context, image string) ([]copies.Manifest, error) {
	ref, err := images.Parse(image)
	if err != nil || ref.Digest == "" {
		return nil, fmt.Errorf("image %q: want HOST/PATH@sha256:HEX: %w", image, ErrNotAllowed)
	}
	accesses := r.accesses(hostOf(ref.Repository))
	if len(accesses) == 0 {
		return nil, fmt.Errorf("image %q: %w", image, ErrNotAllowed)
	}
	for _, access := range accesses {
		var found Image
		if found, err = r.client.Read(ctx, access, ref.Repository, ref.Digest); err == nil {
			return found.Manifests, nil
		}
		if !errors.Is(err, ErrDenied) && !errors.Is(err, ErrNotFound) {
			break
		}
		// Others may be let in; some registries deny that something exists.
	}
	return nil, err
}

// accesses lists whose access to try for a host: nobody's first, then that of the first licences by name.
func (r *Resolver) accesses(host string) []*Access {
	r.mu.RLock()
	defer r.mu.RUnlock()
	of := r.byHost[host]
	if of == nil && !r.governed.Allows(host) {
		return nil
	}
	var accesses []*Access
	if host != dockerHub {
		accesses = append(accesses, &Access{hosts: []string{host}})
	}
	if of == nil {
		return accesses
	}
	for _, license := range of.able {
		if len(accesses) > maxTried {
			break
		}
		accesses = append(accesses, r.licenses[license])
	}
	return accesses
}
