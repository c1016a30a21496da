// Package images knows image references: it parses and normalises them, matches them against the repositories that
// licences name, and finds them in pods. It does no I/O.
package images

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// ErrImageID says that a reference names an image by its ID on the node. The container runtime resolves such IDs, even
// abbreviated ones, among the images it has pulled before, so that the repository stays hidden.
var ErrImageID = errors.New("the image is named by an ID on the node")

// Reference is an image reference in normal form: two references that the container runtime would pull from the same
// place have the same Repository.
type Reference struct {
	// Repository is host and path, the host in lower case and without the default port, for example
	// docker.io/library/busybox.
	Repository string
	// Tag is the tag, or empty. It is kept where a digest is given too, although the digest decides then.
	Tag string
	// Digest is the digest with its algorithm, or empty.
	Digest string
}

// imageID matches what the container runtime takes for an image's ID, whole or abbreviated: an algorithm and a colon,
// or 64 hexadecimal digits.
var imageID = regexp.MustCompile(`^(sha(256|384|512):.*|[a-f0-9]{64})$`)

// dockerHubHosts are the names under which Docker Hub answers, besides those that the reference grammar knows.
var dockerHubHosts = map[string]string{
	"index.docker.io":         "docker.io",
	"registry-1.docker.io":    "docker.io",
	"registry.hub.docker.com": "docker.io",
}

// Parse reads a reference as a container runtime does and normalises it: the host's case, the port 443, Docker Hub's
// aliases and its library/. The error wraps ErrImageID where the reference is an image's ID; any other error means that
// it does not follow the grammar of https://github.com/distribution/reference, so that nothing could pull it.
func Parse(raw string) (Reference, error) {
	if imageID.MatchString(raw) {
		return Reference{}, fmt.Errorf("image reference %q: %w", raw, ErrImageID)
	}
	named, err := reference.ParseNormalizedNamed(raw)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w", raw, err)
	}
	host, path := normalHost(reference.Domain(named)), reference.Path(named)
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	parsed := Reference{Repository: host + "/" + path}
	if tagged, ok := named.(reference.Tagged); ok {
		parsed.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		parsed.Digest = digested.Digest().String()
	}
	return parsed, nil
}

// String is the reference in normal form; parsing it again gives the same Reference.
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

func normalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	if hub, ok := dockerHubHosts[host]; ok {
		return hub
	}
	return host
}
