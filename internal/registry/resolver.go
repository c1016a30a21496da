package registry

import (
	"context"

	"modelrights.dev/modelrights/internal/copies"
)

// Layers says what a running image consists of, for copies.Index.Match.
type Layers interface {
	// Layers reads the manifests of an image: the one that a reference HOST/PATH@sha256:HEX names or, of an index, those
	// of its platforms. The error wraps ErrNotAllowed where no licence and no governed repository names the host, or
	// where the reference names no repository and digest; asking again is no use then before a licence changes. After
	// any other error it is worth trying again later: a *BackoffError says when.
	Layers(ctx context.Context, image string) ([]copies.Manifest, error)
}
