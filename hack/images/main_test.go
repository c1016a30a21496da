package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// writeFiles makes a directory with a program and two data files, all of the given age.
func writeFiles(t *testing.T, age time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	for file, mode := range map[string]os.FileMode{"operator": 0o700, "model/config.json": 0o600, "model/weights.safetensors": 0o666} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content of "+file), mode); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func serveRegistry(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func runImages(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

func TestPushedImage(t *testing.T) {
	host, dir := serveRegistry(t), writeFiles(t, 0)
	printed := runImages(t, "--image", host+"/modelrights/operator:dev", "--platform", "linux/arm64",
		"--file", filepath.Join(dir, "operator")+":/usr/bin/operator", "--file", filepath.Join(dir, "model")+":/models/chat",
		"--entrypoint", "/usr/bin/operator", "--entrypoint", "serve", "--cmd", "--verbose", "--env", "A=b=c", "--user", "0",
		"--label", "org.opencontainers.image.title=operator", "--annotation", "dev.modelrights/model=chat", "--push")
	reference, err := name.NewDigest(printed)
	if err != nil {
		t.Fatalf("printed %q: %v", printed, err)
	}
	image, err := remote.Image(reference)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/usr/bin/operator", "serve"}, Cmd: []string{"--verbose"}, Env: []string{"A=b=c"},
		User: "0", WorkingDir: "/", Labels: map[string]string{"org.opencontainers.image.title": "operator"},
	}
	if !reflect.DeepEqual(config.Config, want) || config.OS != "linux" || config.Architecture != "arm64" {
		t.Errorf("configuration %+v of %s/%s", config.Config, config.OS, config.Architecture)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Annotations["dev.modelrights/model"] != "chat" || len(manifest.Layers) != 2 {
		t.Errorf("annotations %v, %d layers", manifest.Annotations, len(manifest.Layers))
	}
	if manifest.MediaType != "application/vnd.oci.image.manifest.v1+json" {
		t.Errorf("media type %s", manifest.MediaType)
	}
	got := map[string]tar.Header{}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		readTar(t, content, got)
	}
	for path, mode := range map[string]int64{
		"usr/": 0o755, "usr/bin/": 0o755, "usr/bin/operator": 0o755,
		"models/": 0o755, "models/chat/": 0o755, "models/chat/config.json": 0o644, "models/chat/weights.safetensors": 0o644,
	} {
		header, found := got[path]
		if !found || header.Mode != mode || header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(created) {
			t.Errorf("%s: found %v, %o, owner %d:%d, %s", path, found, header.Mode, header.Uid, header.Gid, header.ModTime)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("more files than asked for: %v", got)
	}
}

func readTar(t *testing.T, content io.Reader, into map[string]tar.Header) {
	t.Helper()
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		into[header.Name] = *header
	}
}

func TestDefaultUserIsNotRoot(t *testing.T) {
	host, dir := serveRegistry(t), writeFiles(t, 0)
	printed := runImages(t, "--image", host+"/a:b", "--file", filepath.Join(dir, "operator")+":/operator", "--push")
	reference, err := name.NewDigest(printed)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(reference)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := image.ConfigFile(); err != nil || config.Config.User != "65532" {
		t.Errorf("user %q, %v", config.Config.User, err)
	}
}

func TestDigestDependsOnContentAlone(t *testing.T) {
	output := filepath.Join(t.TempDir(), "image.tar")
	build := func(dir, label string) (string, []byte) {
		t.Helper()
		printed := runImages(t, "--image", "example.com/chat:1", "--file", dir+":/models", "--label", "a=1", "--label", label, "--output", output)
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return printed, content
	}
	first, firstTar := build(writeFiles(t, 0), "b=2")
	second, secondTar := build(writeFiles(t, 24*time.Hour), "b=2")
	if first != second || !bytes.Equal(firstTar, secondTar) {
		t.Errorf("the same content gives %s and %s; tars equal: %v", first, second, bytes.Equal(firstTar, secondTar))
	}
	if other, _ := build(writeFiles(t, 0), "b=3"); other == first {
		t.Error("another label gives the same digest")
	}
}

func TestLayoutTarNamesTheImage(t *testing.T) {
	dir, output := writeFiles(t, 0), filepath.Join(t.TempDir(), "sub", "image.tar")
	printed := runImages(t, "--image", "cluster.example/pause:1", "--file", filepath.Join(dir, "operator")+":/pause", "--output", output)
	content, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]tar.Header{}
	readTar(t, bytes.NewReader(content), files)
	_, digest, _ := strings.Cut(printed, "@sha256:")
	for _, want := range []string{"oci-layout", "index.json", "blobs/sha256/" + digest} {
		if _, found := files[want]; !found {
			t.Errorf("%s is not in the layout", want)
		}
	}
	if !bytes.Contains(content, []byte(`"io.containerd.image.name": "cluster.example/pause:1"`)) {
		t.Error("the image has no name for containerd")
	}
	left, err := os.ReadDir(filepath.Dir(output))
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files stay: %v, %v", left, err)
	}
}

func TestBadCommandLines(t *testing.T) {
	dir := writeFiles(t, 0)
	file := filepath.Join(dir, "operator") + ":/operator"
	empty := t.TempDir()
	linked := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "link")); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no image":          {[]string{"--file", file, "--push"}, "--image is missing"},
		"image with digest": {[]string{"--image", "a@sha256:" + strings.Repeat("0", 64), "--file", file, "--push"}, "want REGISTRY/REPOSITORY:TAG"},
		"nothing to do":     {[]string{"--image", "a:b", "--file", file}, "give --push, --output FILE, or both"},
		"no file":           {[]string{"--image", "a:b", "--push"}, "at least one --file"},
		"relative target":   {[]string{"--image", "a:b", "--file", "x:y", "--push"}, "absolute path in the image"},
		"file at the root":  {[]string{"--image", "a:b", "--file", filepath.Join(dir, "operator") + ":/", "--push"}, "name the file in the image"},
		"file not there":    {[]string{"--image", "a:b", "--file", filepath.Join(dir, "none") + ":/x", "--push"}, "build it first"},
		"empty directory":   {[]string{"--image", "a:b", "--file", empty + ":/x", "--push"}, "holds no file"},
		"link":              {[]string{"--image", "a:b", "--file", linked + ":/x", "--push"}, "no regular file"},
		"label":             {[]string{"--image", "a:b", "--file", file, "--label", "x", "--push"}, "want NAME=VALUE"},
		"platform":          {[]string{"--image", "a:b", "--file", file, "--platform", "linux", "--push"}, "want os/architecture"},
		"stray argument":    {[]string{"--image", "a:b", "--file", file, "--push", "x"}, "unexpected argument"},
		"no registry":       {[]string{"--image", "127.0.0.1:1/a:b", "--file", file, "--push"}, "is the registry up"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), test.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestParseFile(t *testing.T) {
	for text, want := range map[string]fileEntry{
		"bin/x:/x":           {"bin/x", "/x"},
		"a:b/c:/models/c":    {"a:b/c", "/models/c"},
		"model:/models/../m": {"model", "/m"},
		"model:/":            {"model", "/"},
	} {
		if got, err := parseFile(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
