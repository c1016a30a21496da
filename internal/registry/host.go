package registry

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"modelrights.dev/modelrights/internal/images"
)

// normalHost brings a registry's host, as people and Docker's configuration files write it, into the form that
// images.Parse gives it. It is empty for what is no host.
func normalHost(host string) string {
	if host == "" || strings.ContainsAny(host, "/*@") {
		return ""
	}
	if host != "localhost" && !strings.ContainsAny(host, ".:") {
		host += ":443" // or it would be taken for a path on Docker Hub
	}
	ref, err := images.Parse(host + "/any/image")
	if err != nil {
		return ""
	}
	normal, _, _ := strings.Cut(ref.Repository, "/")
	return normal
}

// hostOf is the host of a repository in normal form.
func hostOf(repository string) string {
	host, _, _ := strings.Cut(repository, "/")
	return host
}

// endpoint is a server as URLs name it: scheme, lower-case name or address without brackets, and port.
type endpoint struct{ scheme, name, port string }

func endpointOf(u *url.URL) endpoint {
	e := endpoint{scheme: u.Scheme, name: strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port: u.Port()}
	if e.port == "" {
		e.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return e
}

func (e endpoint) sameServer(other endpoint) bool {
	return e.name == other.name && e.port == other.port
}

// isLoopback says that a name literally is this machine: localhost, or a loopback address. Plain http is used for no
// other registry, as containerd does, unless Options.PlainHTTP names it.
func isLoopback(name string) bool {
	if name == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(name)
	return err == nil && address.Unmap().IsLoopback()
}

// sharesOwner says that two host names belong to the same owner as far as names can tell: what lies under one name that
// was registered with a public registry of names (https://publicsuffix.org) has one. Addresses and names that nobody
// registers, as those of Services, tell nothing.
func sharesOwner(a, b string) bool {
	registered := func(name string) string {
		if net.ParseIP(name) != nil {
			return ""
		}
		suffix, icann := publicsuffix.PublicSuffix(name)
		if !icann && !strings.Contains(suffix, ".") {
			return "" // no known suffix: the list takes the last label for one
		}
		owner, err := publicsuffix.EffectiveTLDPlusOne(name)
		if err != nil {
			return ""
		}
		return owner
	}
	owner := registered(a)
	return owner != "" && owner == registered(b)
}
