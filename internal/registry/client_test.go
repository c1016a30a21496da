package registry

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const host, repository = "registry.example.com", "registry.example.com/models/chat"

func TestResolveImage(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	made := image(t)
	net.push(server, repository, "v1", made)
	got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != digestOf(t, made) || len(got.Platforms) != 0 || len(got.Manifests) != 1 {
		t.Fatalf("got %+v", got)
	}
	manifest := got.Manifests[0]
	layers, _ := made.Layers()
	config, _ := made.ConfigName()
	if manifest.Digest != got.Digest || manifest.Config != config.String() || manifest.Data || len(manifest.Layers) != len(layers) {
		t.Errorf("manifest %+v", manifest)
	}
	for i, layer := range layers {
		digest, _ := layer.Digest()
		diffID, _ := layer.DiffID()
		size, _ := layer.Size()
		if found := manifest.Layers[i]; found.Digest != digest.String() || found.DiffID != diffID.String() || found.Size != size {
			t.Errorf("layer %d is %+v", i, found)
		}
	}
	for _, seen := range net.requests(host) {
		for _, layer := range layers {
			if digest, _ := layer.Digest(); strings.HasSuffix(seen.path, digest.String()) {
				t.Errorf("a layer was asked for: %+v", seen)
			}
		}
	}
}

func TestResolveIndex(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	amd64, arm64 := image(t), image(t)
	provenance := v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}
	both := mutate.AppendManifests(index(amd64, arm64),
		mutate.IndexAddendum{Add: image(t), Descriptor: provenance},
		mutate.IndexAddendum{Add: index(image(t))}, // an index in the index
	)
	net.push(server, repository, "v1", both)
	got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{digestOf(t, amd64), digestOf(t, arm64)}
	if got.Digest != digestOf(t, both) || !slices.Equal(got.Platforms, want) || len(got.Manifests) != 2 {
		t.Errorf("got %+v, want the index with platforms %v", got, want)
	}
}

func TestResolveArtifact(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	weights := mutate.ConfigMediaType(image(t), "application/vnd.cncf.model.config.v1+json")
	net.push(server, repository, "v1", weights)
	got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
	if err != nil || len(got.Manifests) != 1 || !got.Manifests[0].Data || got.Manifests[0].Config != "" {
		t.Errorf("got %+v, %v; want files without a configuration that says anything", got, err)
	}
}

func TestPlatformsThatTheRegistryLacks(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	kept, missing := image(t), image(t)
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, digestOf(t, missing)) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		server.ServeHTTP(w, r)
	}))
	net.push(server, repository, "v1", index(kept, missing))
	got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
	if err != nil || len(got.Platforms) != 2 || len(got.Manifests) != 1 {
		t.Errorf("got %+v, %v; want two platforms, one of them read", got, err)
	}
}

func TestManyPlatformsAreCut(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	images := make([]v1.Image, MaxPlatforms+1)
	for i := range images {
		images[i] = image(t)
	}
	net.push(server, repository, "v1", index(images...))
	got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
	if err != nil || len(got.Platforms) != MaxPlatforms || len(got.Manifests) != MaxPlatforms {
		t.Errorf("%d platforms, %d of them read, %v", len(got.Platforms), len(got.Manifests), err)
	}
}

func TestWhatWasReadIsNotAskedForAgain(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	net.push(server, repository, "v1", index(image(t), image(t)))
	client, a := net.client(), access(t, nil, host)
	first, err := client.Resolve(t.Context(), a, repository, "v1")
	if err != nil {
		t.Fatal(err)
	}
	before := len(net.requests(host))
	if _, err := client.Resolve(t.Context(), a, repository, "v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(t.Context(), a, repository, first.Digest); err != nil {
		t.Fatal(err)
	}
	after := net.requests(host)[before:]
	if len(after) != 1 || after[0].method != http.MethodHead {
		t.Errorf("asked again: %+v", after)
	}
}

func TestTagThatMoves(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	client, a := net.client(), access(t, nil, host)
	for range 2 {
		made := image(t)
		net.push(server, repository, "v1", made)
		if got, err := client.Resolve(t.Context(), a, repository, "v1"); err != nil || got.Digest != digestOf(t, made) {
			t.Errorf("got %s, %v, want %s", got.Digest, err, digestOf(t, made))
		}
	}
}

func TestRegistryWithoutHead(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		server.ServeHTTP(w, r)
	}))
	made := image(t)
	net.push(server, repository, "v1", made)
	if got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1"); err != nil || got.Digest != digestOf(t, made) {
		t.Errorf("got %s, %v", got.Digest, err)
	}
}

func TestErrors(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	net.push(server, repository, "v1", image(t))
	net.serve("private.example.com", loginWith("https://private.example.com/token", server))
	client := net.client()
	tests := map[string]struct {
		repository, tag string
		want            error
	}{
		"a tag that is not there":        {repository, "v2", ErrNotFound},
		"a repository that is not there": {host + "/models/other", "v1", ErrNotFound},
		"no credentials":                 {"private.example.com/models/chat", "v1", ErrDenied},
		"nobody answers":                 {"away.example.com/models/chat", "v1", ErrUnreachable},
		"a host that nobody named":       {"other.example.com/models/chat", "v1", ErrNotAllowed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := access(t, nil, host, "private.example.com", "away.example.com")
			_, err := client.Resolve(t.Context(), a, tc.repository, tc.tag)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			_, err = client.Tags(t.Context(), a, tc.repository)
			if tc.tag == "v1" && !errors.Is(err, tc.want) {
				t.Errorf("listing: error %v, want %v", err, tc.want)
			}
		})
	}
	if len(net.requests("other.example.com")) > 0 {
		t.Error("a host that nobody named was asked")
	}
}

func TestLogin(t *testing.T) {
	tests := map[string]struct {
		host, realmHost, endpoint, repository string
	}{
		"at the registry itself":              {host, host, host, repository},
		"at a sibling of the same owner":      {host, "auth.example.com", host, repository},
		"at the owner's own name":             {host, "example.com", host, repository},
		"of a registry with a port":           {"registry.example.com:5000", "registry.example.com:5000", "registry.example.com:5000", "registry.example.com:5000/models/chat"},
		"of Docker Hub":                       {"docker.io", "auth.docker.io", "index.docker.io", "docker.io/acme/chat"},
		"of a registry that nobody registers": {"registry.models.svc", "registry.models.svc", "registry.models.svc", "registry.models.svc/models/chat"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			net, server := newInternet(t), newRegistry()
			mux := http.NewServeMux()
			mux.Handle("/v2/", loginWith("https://"+tc.realmHost+"/token", server))
			mux.Handle("/token", tokenService)
			net.serve(tc.endpoint, mux)
			if tc.realmHost != tc.endpoint {
				net.serve(tc.realmHost, tokenService)
			}
			made := image(t)
			net.push(server, tc.repository, "v1", made)
			got, err := net.client().Resolve(t.Context(), access(t, dockerConfig(tc.host), tc.host), tc.repository, "v1")
			if err != nil || got.Digest != digestOf(t, made) {
				t.Errorf("got %s, %v", got.Digest, err)
			}
		})
	}
}

func TestLoginAnewAfterADenial(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	mux := http.NewServeMux()
	mux.Handle("/v2/", loginWith("https://"+host+"/token", server))
	mux.Handle("/token", tokenService)
	closed := true
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case closed && r.URL.Path == "/v2/":
		case closed:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	net.push(server, repository, "v1", image(t))
	client, a := net.client(), access(t, dockerConfig(host), host)
	if _, err := client.Resolve(t.Context(), a, repository, "v1"); !errors.Is(err, ErrDenied) {
		t.Fatalf("error %v, want %v", err, ErrDenied)
	}
	closed = false // and it wants a token from now on
	if _, err := client.Resolve(t.Context(), a, repository, "v1"); err != nil {
		t.Error(err)
	}
}

func TestTags(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	made := image(t)
	hex := strings.TrimPrefix(digestOf(t, made), "sha256:")
	for _, tag := range []string{"v9", "v10", "v1.2", "v1.10", "latest", "v2-rc1", "sha256-" + hex + ".sig", "sha256-" + hex} {
		net.push(server, repository, tag, made)
	}
	got, err := net.client().Tags(t.Context(), access(t, nil, host), repository)
	want := []string{"v10", "v9", "v2-rc1", "v1.10", "v1.2", "latest"}
	if err != nil || got.Cut || !slices.Equal(got.Names, want) {
		t.Errorf("got %+v, %v, want %v", got, err, want)
	}
}

func TestNotAnImage(t *testing.T) {
	tests := map[string]string{
		"an index and a manifest at once": `{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`,
		"an index with a configuration":   `{"schemaVersion":2,"manifests":[],"config":{}}`,
		"neither":                         `{"schemaVersion":2}`,
		"schema 1":                        `{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:0"}]}`,
		"no JSON":                         `<html>`,
		"a list":                          `[]`,
		"null":                            `null`,
		"layers that are no list":         `{"layers":{"a":1}}`,
		"manifests that are no list":      `{"manifests":"all"}`,
		"deep":                            strings.Repeat(`{"layers":`, 20000) + "1" + strings.Repeat("}", 20000),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			net := newInternet(t)
			net.serve(host, answerManifest(types.OCIManifestSchema1, text))
			if got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1"); !errors.Is(err, ErrUnreachable) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// answerManifest answers each question for a manifest with the same text.
func answerManifest(kind types.MediaType, text string) http.Handler {
	digest, _ := static.NewLayer([]byte(text), kind).Digest()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.Header().Set("Content-Type", string(kind))
		w.Header().Set("Docker-Content-Digest", digest.String())
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		if r.Method != http.MethodHead {
			fmt.Fprint(w, text)
		}
	})
}
