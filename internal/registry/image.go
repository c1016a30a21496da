package registry

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"modelrights.dev/modelrights/internal/copies"
)

const (
	// MaxPlatforms bounds the manifests of an index that are looked at.
	MaxPlatforms = 16

	// flightTimeout bounds the reading of one manifest and its configuration, for all who wait for it.
	flightTimeout = time.Minute
)

// Image is what a tag or a digest stands for.
type Image struct {
	// Digest is that of the manifest, or of the index: sha256:HEX. The content was read and has this digest.
	Digest string
	// Platforms are the digests of an index's manifests, the first 16; empty for a manifest. Manifests that describe others,
	// such as provenance, and indexes within the index are left out.
	Platforms []string
	// Manifests are the manifest, or those of Platforms that the registry has.
	Manifests []copies.Manifest
}

var digestGrammar = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Resolve asks what a tag of a repository, in normal form, stands for now.
func (c *Client) Resolve(ctx context.Context, a *Access, repository, tag string) (Image, error) {
	digest, err := c.digestOf(ctx, a, repository, tag)
	if err != nil {
		return Image{}, c.failed(a, repository, repository+":"+tag, err)
	}
	return c.Read(ctx, a, repository, digest)
}

// digestOf takes the digest from the answer's header, and from its content where there is no usable header. The content
// that a header promises is read by that digest afterwards, so that an answer that contradicts it comes to nothing.
func (c *Client) digestOf(ctx context.Context, a *Access, repository, tag string) (string, error) {
	puller, repo, err := c.puller(a, repository)
	if err != nil {
		return "", err
	}
	descriptor, err := puller.Head(ctx, repo.Tag(tag))
	if err == nil && digestGrammar.MatchString(descriptor.Digest.String()) {
		return descriptor.Digest.String(), nil
	}
	if backoff := (*BackoffError)(nil); errors.As(err, &backoff) {
		return "", err
	}
	got, err := puller.Get(ctx, repo.Tag(tag))
	if err != nil {
		return "", err
	}
	return c.keep(ctx, a, repository, got.Manifest)
}

// Read reads the manifest or index of that digest, and what belongs to it, from a repository in normal form. What was
// read before is not asked for again.
func (c *Client) Read(ctx context.Context, a *Access, repository, digest string) (Image, error) {
	what := repository + "@" + digest
	top, err := c.content(ctx, a, repository, digest)
	if err != nil {
		return Image{}, c.failed(a, repository, what, err)
	}
	if top.manifest != nil {
		return Image{Digest: digest, Manifests: []copies.Manifest{*top.manifest}}, nil
	}
	image := Image{Digest: digest, Platforms: top.platforms}
	for _, platform := range top.platforms {
		below, err := c.content(ctx, a, repository, platform)
		switch err := c.failed(a, repository, repository+"@"+platform, err); {
		case errors.Is(err, ErrNotFound):
			// Mirrors may hold some platforms only.
		case err != nil:
			return Image{}, err
		case below.manifest != nil:
			image.Manifests = append(image.Manifests, *below.manifest)
		}
	}
	return image, nil
}

// failed makes a problem of an error, and logs in anew where the login is not accepted any more.
func (c *Client) failed(a *Access, repository, what string, err error) error {
	err = problem(what, err)
	if errors.Is(err, ErrDenied) {
		c.forget(a, repository)
	}
	return err
}

// contentKey names what was read. The repository counts, so that nobody gets what another repository keeps.
type contentKey struct{ repository, digest string }

// content returns a manifest or index, from the cache or the registry.
func (c *Client) content(ctx context.Context, a *Access, repository, digest string) (*content, error) {
	key := contentKey{repository, digest}
	if known, ok := c.contents.Get(key); ok {
		if found, ok := known.(*content); ok {
			return found, nil
		}
	}
	if !digestGrammar.MatchString(digest) {
		return nil, refuse("%q is no SHA-256 digest", digest)
	}
	flight := c.flights.DoChan(fmt.Sprintf("%x %s@%s", a.id, repository, digest), func() (any, error) {
		// Whoever came first may go, while others wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
		defer cancel()
		puller, repo, err := c.puller(a, repository)
		if err != nil {
			return nil, err
		}
		got, err := puller.Get(ctx, repo.Digest(digest))
		if err != nil {
			return nil, err
		}
		found, err := c.interpret(ctx, a, repository, got.Manifest)
		if err != nil {
			return nil, err
		}
		// The library believes a header for one type of manifest.
		if found.digest != digest {
			return nil, refuse("it answers with other content than the digest names")
		}
		return found, nil
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return nil, result.Err
		}
		found, ok := result.Val.(*content)
		if !ok {
			return nil, refuse("nothing was read")
		}
		c.contents.Add(key, found)
		return found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep interprets content that was asked for by tag, and returns its digest.
func (c *Client) keep(ctx context.Context, a *Access, repository string, raw []byte) (string, error) {
	found, err := c.interpret(ctx, a, repository, raw)
	if err != nil {
		return "", err
	}
	c.contents.Add(contentKey{repository, found.digest}, found)
	return found.digest, nil
}
