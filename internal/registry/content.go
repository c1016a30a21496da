package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"modelrights.dev/modelrights/internal/copies"
)

// content is a manifest or an index as far as it matters here.
type content struct {
	digest    string
	manifest  *copies.Manifest // nil for an index
	platforms []string         // of an index
}

// maxLayers bounds the layers of a manifest that are looked at.
const maxLayers = 1024

// interpret reads a manifest, and its configuration from the registry, or an index.
func (c *Client) interpret(ctx context.Context, a *Access, repository string, raw []byte) (*content, error) {
	found := &content{digest: fmt.Sprintf("sha256:%x", sha256.Sum256(raw))}
	var kind struct {
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, refuse("what it calls a manifest is none")
	}
	switch isManifest := kind.Layers != nil || kind.Config != nil; {
	case kind.Manifests != nil && isManifest:
		// Container runtimes could take it for either.
		return nil, refuse("it answers with a document that is both an index and a manifest")
	case kind.Manifests != nil:
		index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, refuse("what it calls an index is none")
		}
		found.platforms = platformsOf(index)
	case isManifest:
		manifest, err := v1.ParseManifest(bytes.NewReader(raw))
		if err != nil || len(manifest.Layers) > maxLayers {
			return nil, refuse("what it calls a manifest is none, or has more than %d layers", maxLayers)
		}
		found.manifest = &copies.Manifest{Digest: found.digest}
		for _, l := range manifest.Layers {
			found.manifest.Layers = append(found.manifest.Layers, copies.Layer{Digest: l.Digest.String(), Size: l.Size})
		}
		if err := c.addConfig(ctx, a, repository, manifest.Config, found.manifest); err != nil {
			return nil, err
		}
	default:
		return nil, refuse("it answers with neither an index nor a manifest of layers")
	}
	return found, nil
}

// platformsOf lists the images of an index.
func platformsOf(index *v1.IndexManifest) []string {
	var platforms []string
	for _, d := range index.Manifests {
		_, describes := d.Annotations["vnd.docker.reference.type"]
		digest := d.Digest.String()
		if !d.MediaType.IsImage() || describes || !digestGrammar.MatchString(digest) || slices.Contains(platforms, digest) {
			continue
		}
		if len(platforms) == MaxPlatforms {
			break
		}
		platforms = append(platforms, digest)
	}
	return platforms
}

// addConfig adds what the configuration says. Where the registry keeps it on a server of somebody else, sends it broken
// or too long, the manifest has to do: its layers are known by their digests then.
func (c *Client) addConfig(ctx context.Context, a *Access, repository string, config v1.Descriptor, to *copies.Manifest) error {
	if !config.MediaType.IsConfig() {
		// An artifact: it holds files, and its configuration may be the same for many.
		to.Data = true
		return nil
	}
	puller, repo, err := c.puller(a, repository)
	if err != nil {
		return err
	}
	raw, err := readBlob(ctx, puller, repo.Digest(config.Digest.String()), config)
	switch {
	case isLasting(err):
		return nil
	case err != nil:
		return err
	}
	file, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil || len(file.RootFS.DiffIDs) != len(to.Layers) || len(to.Layers) == 0 {
		return nil //nolint:nilerr // A broken configuration says nothing; the manifest still does.
	}
	to.Config = config.Digest.String()
	to.Data = len(file.Config.Entrypoint) == 0 && len(file.Config.Cmd) == 0
	for i, id := range file.RootFS.DiffIDs {
		to.Layers[i].DiffID = id.String()
	}
	return nil
}

// readBlob reads a configuration, whose digest is verified on the way.
func readBlob(ctx context.Context, puller *remote.Puller, ref name.Digest, config v1.Descriptor) ([]byte, error) {
	if config.Size > maxBody {
		return nil, refuse("its configuration is longer than %d bytes", int64(maxBody))
	}
	blob, err := puller.Layer(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("asking for a configuration: %w", err)
	}
	reader, err := blob.Compressed() // as it is kept
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(reader)
	return raw, errors.Join(err, reader.Close())
}

// isLasting says that asking again brings nothing else.
func isLasting(err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode < http.StatusInternalServerError && answer.StatusCode != http.StatusTooManyRequests
	}
	var refused *refusal
	return errors.As(err, &refused) || err != nil && isMismatch(err)
}
