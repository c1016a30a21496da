package main

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func serve(t *testing.T, dir string) (host string, stop func()) {
	t.Helper()
	handler, err := newRegistry(dir, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	return strings.TrimPrefix(server.URL, "http://"), server.Close
}

func TestImagesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	image, err := random.Image(64, 2)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image})
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	repository := "models/" + strings.Repeat("long/", 40) + "chat"

	host, stop := serve(t, dir)
	write := func(tag string, push func(name.Reference) error) {
		t.Helper()
		reference, err := name.ParseReference(host + "/" + repository + ":" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := push(reference); err != nil {
			t.Fatal(err)
		}
	}
	write("image", func(r name.Reference) error { return remote.Write(r, image) })
	write("gone", func(r name.Reference) error { return remote.Write(r, image) })
	write("index", func(r name.Reference) error { return remote.WriteIndex(r, index) })
	write("gone", func(r name.Reference) error { return remote.Delete(r) })
	stop()

	host, stop = serve(t, dir)
	defer stop()
	get := func(tag string) (*remote.Descriptor, error) {
		reference, err := name.ParseReference(host + "/" + repository + ":" + tag)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Get(reference)
	}
	found, err := get("image")
	if err != nil || found.Digest != want {
		t.Fatalf("image after the restart: %v, %v", found, err)
	}
	pulled, err := found.Image()
	if err != nil {
		t.Fatal(err)
	}
	readLayers(t, pulled)
	if _, err := get("index"); err != nil {
		t.Errorf("index after the restart: %v", err)
	}
	if _, err := get("gone"); err == nil {
		t.Error("a deleted tag is back after the restart")
	}
}

func readLayers(t *testing.T, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Error(err)
		}
	}
}

func TestManifestsAreBounded(t *testing.T) {
	body := strings.NewReader(strings.Repeat("x", maxManifest+1))
	request := httptest.NewRequest("PUT", "/v2/a/manifests/b", body)
	handler, err := newRegistry(t.TempDir(), log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != 413 {
		t.Errorf("answered %d", answer.Code)
	}
}
