package images

import (
	"errors"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/go-digest/digestset"
)

// This file holds Parse to what the kubelet and containerd do with a reference, by the libraries that they use
// (distribution/reference, go-digest) and, where they have rules of their own, by these written down.

// kubeletImage is the name that the kubelet hands to the runtime: it refuses what does not parse, and adds the tag latest
// where there is neither tag nor digest (applyDefaultImageTag in k8s.io/kubernetes/pkg/kubelet/images).
func kubeletImage(raw string) (string, bool) {
	named, err := reference.ParseNormalizedNamed(raw)
	if err != nil {
		return "", false
	}
	if reference.IsNameOnly(named) {
		raw += ":latest"
	}
	return raw, true
}

// location is where containerd pulls an image from: host and port as they are dialled, and the repository's path there.
type location struct{ host, port, path string }

// containerdPulls says where containerd pulls an image from (PullImage in internal/cri/server/images, Parse in
// pkg/reference, DefaultHost in core/remotes/docker, all of containerd v2.2): the tag is dropped where there is a digest,
// what is left is read as a URL of which host and path count, and docker.io is asked for at registry-1.docker.io.
func containerdPulls(image string) (location, bool) {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return location{}, false
	}
	u, err := url.Parse("dummy://" + named.String())
	if err != nil || u.Host == "" {
		return location{}, false
	}
	repository := u.Path
	if i := strings.IndexAny(repository, ":@"); i >= 0 {
		repository = repository[:i]
	}
	host, repository, _ := strings.Cut(path.Join(u.Host, repository), "/")
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	return dialled(host, repository)
}

// dialled is how net/http reaches a host: names in any case, port 443 unless there is another, addresses by their value.
func dialled(host, repository string) (location, bool) {
	u, err := url.Parse("https://" + host + "/")
	if err != nil {
		return location{}, false
	}
	l := location{host: strings.ToLower(u.Hostname()), port: "443", path: repository}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return location{}, false // no such port: nothing can be dialled
		}
		l.port = strconv.FormatUint(n, 10)
	}
	if address, err := netip.ParseAddr(l.host); err == nil {
		l.host = address.Unmap().String()
	}
	return l, true
}

// pattern is the repository as a licence would name the location.
func (l location) pattern() string {
	host := l.host
	switch {
	case strings.Contains(host, "_"):
		return host + "/" + l.path // the grammar knows no port behind it
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return host + ":" + l.port + "/" + l.path
}

// onNode says whether containerd takes the name for the ID, or the beginning of the ID, of an image that the node could
// have (LocalResolve in internal/cri/server/images and Get in internal/cri/store/image, by the same digestset).
func onNode(t *testing.T, image string) bool {
	t.Helper()
	_, hex, found := strings.Cut(image, ":")
	if !found {
		hex = image
	}
	if hex == "" || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return false
	}
	ids := digestset.NewSet()
	if err := ids.Add(digest.Digest("sha256:" + hex + strings.Repeat("0", 64-len(hex)))); err != nil {
		t.Fatal(err)
	}
	_, err := ids.Lookup(image)
	return err == nil
}

// checkRecognised: what the runtime would pull, a licence of that repository covers; and what it would find by ID is told
// to be an ID.
func checkRecognised(t *testing.T, raw string) {
	t.Helper()
	ref, parseErr := Parse(raw)
	image, ok := kubeletImage(raw)
	if !ok {
		if parseErr == nil {
			t.Fatalf("Parse(%q) = %+v, but the kubelet refuses it", raw, ref)
		}
		return
	}
	if onNode(t, image) && !errors.Is(parseErr, ErrImageID) {
		t.Fatalf("Parse(%q) = %+v, %v, but containerd takes it for an image's ID", raw, ref, parseErr)
	}
	from, ok := containerdPulls(image)
	if !ok || errors.Is(parseErr, ErrImageID) {
		return
	}
	if parseErr != nil {
		t.Fatalf("Parse(%q): %v, but containerd pulls it from %+v", raw, parseErr, from)
	}
	pattern, err := ParsePattern(from.pattern())
	if err != nil {
		t.Fatalf("%q is pulled from %+v, which no licence can name: %v", raw, from, err)
	}
	if !pattern.Matches(ref.Repository) {
		t.Fatalf("Parse(%q) = %+v, but a licence of %s, where containerd pulls it from, does not cover it", raw, ref, from.pattern())
	}
	if len(NewIndex(func(add func(Pattern, int)) { add(pattern, 1) }).Lookup(ref.Repository, nil)) == 0 {
		t.Fatalf("the index does not find %s for %q", from.pattern(), raw)
	}
}

func TestRecognisesWhatTheRuntimePulls(t *testing.T) {
	for _, raw := range append(seeds, "REGISTRY.Example.com:0443/m:v1", "[2001:DB8:0:0::1]:05000/m", "[::ffff:10.0.0.1]/m", "Foo/bar", "a.b:99999/c",
		"registry-1.docker.io/library/x", "sha256:0", "sha256:zz", "deadbeef", "library/sha256:0", "a.b/c:v1@sha256:"+hex64, "a.b/c@sha512:"+hex64+hex64, "a_b.c/d:e", "a_b/c", "a_b:1/c") {
		checkRecognised(t, raw)
	}
}

func FuzzRecognisesWhatTheRuntimePulls(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(checkRecognised)
}

func FuzzParsePattern(f *testing.F) {
	for _, seed := range []string{"registry.example.com/models/*", "a.b/**/c/**", "docker.io/*", "[::1]:0443/**", "A.b:443/c", "localhost/x", "a.b/c:d", "*/a", "a.b/***"} {
		f.Add(seed, "a.b/x/c")
	}
	f.Fuzz(func(t *testing.T, text, repository string) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		again, err := ParsePattern(p.String())
		if host := p[0]; err != nil && (host == "localhost" || strings.ContainsAny(host, ".:")) || err == nil && again.String() != p.String() {
			t.Fatalf("%q is %q, and that %q, %v", text, p, again, err)
		}
		ref, err := Parse(repository)
		if err != nil {
			return
		}
		found := NewIndex(func(add func(Pattern, int)) { add(p, 1) }).Lookup(ref.Repository, nil)
		if p.Matches(ref.Repository) != (len(found) > 0) {
			t.Fatalf("%q matches %q: %t, and is found %d times", text, repository, p.Matches(ref.Repository), len(found))
		}
	})
}
