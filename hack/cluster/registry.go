package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// maxManifest bounds a manifest, as the distribution specification advises (4 MiB).
const maxManifest = 4 << 20

// serveRegistry is the image registry's process.
func serveRegistry(args []string) error {
	flags := flag.NewFlagSet("serve-registry", flag.ContinueOnError)
	listen := flags.String("listen", "", "`address` to listen on")
	data := flags.String("data", "", "`directory` of the images")
	if err := flags.Parse(args); err != nil {
		return err
	}
	handler, err := newRegistry(*data, log.New(os.Stderr, "", log.LstdFlags))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{Addr: *listen, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the registry on %s: %w", *listen, err)
	case <-ctx.Done():
		shutdown, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		return server.Shutdown(shutdown)
	}
}

// manifestKeeper adds to the library's registry what it lacks: manifests that survive a restart. It keeps the body
// of each accepted PUT of a manifest and plays it again at the start.
type manifestKeeper struct {
	inner http.Handler
	dir   string
}

// newRegistry keeps blobs and manifests below dir.
func newRegistry(dir string, logger *log.Logger) (http.Handler, error) {
	blobs, manifests := filepath.Join(dir, "blobs"), filepath.Join(dir, "manifests")
	if err := errors.Join(os.MkdirAll(blobs, 0o755), os.MkdirAll(manifests, 0o755)); err != nil {
		return nil, fmt.Errorf("make the registry's directories: %w", err)
	}
	keeper := &manifestKeeper{
		inner: registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)), registry.Logger(logger)),
		dir:   manifests,
	}
	return keeper, keeper.replay()
}

// ServeHTTP implements http.Handler.
func (k *manifestKeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/manifests/") || r.Method != http.MethodPut && r.Method != http.MethodDelete {
		k.inner.ServeHTTP(w, r)
		return
	}
	if r.Method == http.MethodDelete {
		if err := os.RemoveAll(k.file(r.URL.Path)); err != nil {
			http.Error(w, "forget the manifest: "+err.Error(), http.StatusInternalServerError)
			return
		}
		k.inner.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, "manifest: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	k.inner.ServeHTTP(answer, r)
	if answer.Code == http.StatusCreated {
		if err := k.keep(r.URL.Path, r.Header.Get("Content-Type"), body); err != nil {
			http.Error(w, "keep the manifest: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	io.Copy(w, answer.Body) //nolint:errcheck // a client that hangs up misses only its answer
}

// keep stores a manifest: a line with the request's path, a line with the media type, and the body.
func (k *manifestKeeper) keep(path, mediaType string, body []byte) error {
	if strings.ContainsAny(path+mediaType, "\r\n") {
		return errors.New("path or media type of more than one line")
	}
	return writeFile(k.file(path), append([]byte(path+"\n"+mediaType+"\n"), body...), 0o644)
}

// file is where the manifest of a path is kept. It is named by a hash, since paths may be longer than file names.
func (k *manifestKeeper) file(path string) string {
	return filepath.Join(k.dir, fmt.Sprintf("%x.manifest", sha256.Sum256([]byte(path))))
}

// replay puts the kept manifests back, image indexes last, since they are refused before what they refer to.
func (k *manifestKeeper) replay() error {
	files, err := filepath.Glob(filepath.Join(k.dir, "*.manifest"))
	if err != nil {
		return err
	}
	var indexes []func() error
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		path, rest, _ := strings.Cut(string(content), "\n")
		mediaType, body, _ := strings.Cut(rest, "\n")
		put := func() error { return k.put(path, mediaType, body) }
		if strings.Contains(mediaType, "index") || strings.Contains(mediaType, "manifest.list") {
			indexes = append(indexes, put)
		} else if err := put(); err != nil {
			return err
		}
	}
	for _, put := range indexes {
		if err := put(); err != nil {
			return err
		}
	}
	return nil
}

func (k *manifestKeeper) put(path, mediaType, body string) error {
	request := httptest.NewRequest(http.MethodPut, path, strings.NewReader(body))
	request.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	k.inner.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		return fmt.Errorf("restore the manifest %s: %d %s", path, answer.Code, answer.Body)
	}
	return nil
}
