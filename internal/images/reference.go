// Package images knows image references: it parses and normalises them, matches them against the repositories that
// licences name, and finds them in pods. It does no I/O.
package images

import (
	"errors"
	"fmt"
	"net/netip"
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

// dockerHubHosts are the names under which Docker Hub answers, besides those that the reference grammar knows.
var dockerHubHosts = map[string]string{
	"index.docker.io":         dockerHub,
	"registry-1.docker.io":    dockerHub,
	"registry.hub.docker.com": dockerHub,
}

const (
	dockerHub = "docker.io"
	// sha256HexLen is the length of a SHA-256 in hexadecimal.
	sha256HexLen = 64
)

// Parse reads a reference as a container runtime does and normalises it: the host's case, the port 443 and zeros before
// a port, the forms of an IP address, Docker Hub's aliases and its library/. The error wraps ErrImageID where the
// reference is an image's ID; any other error means that it does not follow the grammar of
// https://github.com/distribution/reference, so that nothing could pull it.
func Parse(raw string) (Reference, error) {
	if isImageID(raw) {
		return Reference{}, fmt.Errorf("image reference %q: %w", raw, ErrImageID)
	}
	named, err := reference.ParseNormalizedNamed(raw)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w", raw, err)
	}
	host, path := reference.Domain(named), reference.Path(named)
	if host == "" {
		// A name with an underscore before its first slash and a dot is none of a host by the grammar, but the container
		// runtime pulls from there.
		host, path, _ = strings.Cut(path, "/")
	}
	parsed := Reference{Repository: repository(host, path)}
	if tagged, ok := named.(reference.Tagged); ok {
		parsed.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		parsed.Digest = digested.Digest().String()
	}
	return parsed, nil
}

// isImageID says whether the container runtime takes the reference for an image's ID, whole or abbreviated: an
// algorithm and a colon, or 64 hexadecimal digits.
func isImageID(raw string) bool {
	for _, algorithm := range []string{"sha256:", "sha384:", "sha512:"} {
		if strings.HasPrefix(raw, algorithm) {
			return true
		}
	}
	return len(raw) == sha256HexLen && strings.Trim(raw, "0123456789abcdef") == ""
}

// String is the reference in normal form; parsing it again gives the same Reference. A host that would be taken for a
// path component of Docker Hub has its port.
func (r Reference) String() string {
	host, path, _ := strings.Cut(r.Repository, "/")
	if host != "localhost" && !strings.ContainsAny(host, ".:") {
		host += ":443"
	}
	s := host + "/" + path
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// repository is host and path in normal form.
func repository(host, path string) string {
	host = normalHost(host)
	if host == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return host + "/" + path
}

func normalHost(host string) string {
	host = strings.ToLower(host)
	port := ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], strings.TrimLeft(host[i:], ":0")
		if port == "" {
			port = "0"
		}
	}
	if hub, ok := dockerHubHosts[host]; ok {
		host = hub
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host = normalAddress(strings.TrimSuffix(inner, "]"))
	}
	if port == "" || port == "443" {
		return host
	}
	return host + ":" + port
}

// normalAddress writes an IPv6 address as RFC 5952 does, in brackets, and one that stands for an IPv4 address as that.
func normalAddress(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return "[" + address + "]"
	}
	if parsed = parsed.Unmap(); parsed.Is4() {
		return parsed.String()
	}
	return "[" + parsed.String() + "]"
}
