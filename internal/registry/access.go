package registry

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// maxCredentials bounds the entries of a pull Secret that are kept.
const maxCredentials = 64

// ErrNoCredentials means that a Docker configuration has no entry for any of the hosts for which it was given.
var ErrNoCredentials = errors.New("it has no entry for any of these hosts")

// Access is what may be contacted on behalf of somebody: hosts, and the credentials for them.
type Access struct {
	hosts       []string
	credentials []credential
	id          [sha256.Size]byte
}

// credential is for the repositories of a host, or for those below a path of it.
type credential struct {
	host, path string
	auth       authn.AuthConfig
}

// NewAccess allows hosts, in the normal form of images.Parse, anonymously or, if dockerConfig is not empty, with those of
// its credentials that are for these hosts: credentials for other hosts are not kept. Its form is that of
// .dockerconfigjson (https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets), with entries
// for a host or for a path of it; wildcards are not known. The error, which never holds a part of dockerConfig, says what
// is wrong with it, or is ErrNoCredentials.
func NewAccess(hosts []string, dockerConfig []byte) (*Access, error) {
	a := &Access{hosts: slices.Compact(slices.Sorted(slices.Values(hosts)))}
	if len(dockerConfig) == 0 {
		return a, nil
	}
	var config struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if err := json.Unmarshal(dockerConfig, &config); err != nil {
		// What the parser says may quote what it could not read.
		return nil, errors.New("it is no Docker configuration: want {\"auths\": {\"HOST\": {\"auth\": …}}}")
	}
	for server, auth := range config.Auths {
		c := credentialFor(server, auth)
		if a.Allows(c.host) && auth != (authn.AuthConfig{}) {
			a.credentials = append(a.credentials, c)
		}
	}
	if len(a.credentials) == 0 {
		return nil, ErrNoCredentials
	}
	if len(a.credentials) > maxCredentials {
		return nil, fmt.Errorf("it has more than %d entries for these hosts", maxCredentials)
	}
	// The longest path first: it is the closest.
	slices.SortFunc(a.credentials, func(x, y credential) int {
		if len(x.path) != len(y.path) {
			return len(y.path) - len(x.path)
		}
		return strings.Compare(x.host+"/"+x.path, y.host+"/"+y.path)
	})
	a.id = fingerprint(a.credentials)
	return a, nil
}

// Allows says whether a host, in normal form, may be contacted.
func (a *Access) Allows(host string) bool {
	_, found := slices.BinarySearch(a.hosts, host)
	return found && host != ""
}

// has says whether there are credentials for a host.
func (a *Access) has(host string) bool {
	return slices.ContainsFunc(a.credentials, func(c credential) bool { return c.host == host })
}

// authenticator has the credentials for a repository in normal form.
func (a *Access) authenticator(repository string) authn.Authenticator {
	host, path, _ := strings.Cut(repository, "/")
	for _, c := range a.credentials {
		if c.host == host && (c.path == "" || path == c.path || strings.HasPrefix(path, c.path+"/")) {
			return authn.FromConfig(c.auth)
		}
	}
	return authn.Anonymous
}

// credentialFor reads an entry's name: HOST, HOST/PATH, or the URL of an API's version, which old clients write.
func credentialFor(server string, auth authn.AuthConfig) credential {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	host, path, _ := strings.Cut(server, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	return credential{host: normalHost(host), path: path, auth: auth}
}

// salt keeps fingerprints from saying anything outside of this process.
var salt = func() []byte {
	b := make([]byte, sha256.Size)
	_, _ = rand.Read(b) // never fails
	return b
}()

// fingerprint tells credentials apart without keeping them.
func fingerprint(credentials []credential) [sha256.Size]byte {
	text := bytes.NewBuffer(slices.Clone(salt))
	for _, c := range credentials {
		for _, part := range []string{c.host, c.path, c.auth.Username, c.auth.Password, c.auth.IdentityToken, c.auth.RegistryToken} {
			fmt.Fprintf(text, "%d:%s", len(part), part)
		}
	}
	return sha256.Sum256(text.Bytes())
}
