package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// hostile answers the ping, and everything else as it likes.
func hostile(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			answer(w, r)
		}
	})
}

// pour writes a piece until nobody reads any more, and counts what it wrote.
func pour(w http.ResponseWriter, r *http.Request, piece []byte, pause time.Duration, written *atomic.Int64) {
	for r.Context().Err() == nil && r.Method != http.MethodHead {
		n, err := w.Write(piece)
		written.Add(int64(n))
		if err != nil {
			return
		}
		if pause > 0 {
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	}
}

func TestEndlessAnswers(t *testing.T) {
	tests := map[string]func(w http.ResponseWriter, r *http.Request, written *atomic.Int64){
		"for ever, fast": func(w http.ResponseWriter, r *http.Request, written *atomic.Int64) {
			pour(w, r, make([]byte, 1<<16), 0, written)
		},
		"for ever, a byte at a time": func(w http.ResponseWriter, r *http.Request, written *atomic.Int64) {
			pour(w, r, []byte(" "), 10*time.Millisecond, written)
		},
		"an endless list": func(w http.ResponseWriter, r *http.Request, written *atomic.Int64) {
			fmt.Fprint(w, `{"tags": [`)
			pour(w, r, []byte(strings.Repeat(`"v1",`, 10000)), 0, written)
		},
		"an endless refusal": func(w http.ResponseWriter, r *http.Request, written *atomic.Int64) {
			w.WriteHeader(http.StatusForbidden)
			pour(w, r, make([]byte, 1<<16), 0, written)
		},
		"never": func(_ http.ResponseWriter, r *http.Request, _ *atomic.Int64) { <-r.Context().Done() },
		"an endless header": func(w http.ResponseWriter, _ *http.Request, _ *atomic.Int64) {
			w.Header().Set("X-Padding", strings.Repeat("x", 1<<18))
			fmt.Fprint(w, `{"tags": ["v1"]}`)
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written atomic.Int64
			net := newInternet(t)
			net.serve(host, hostile(func(w http.ResponseWriter, r *http.Request) { answer(w, r, &written) }))
			client := net.client()
			client.timeout = time.Second
			a := access(t, nil, host)
			_, listErr := client.Tags(t.Context(), a, repository)
			_, resolveErr := client.Resolve(t.Context(), a, repository, "v1")
			if !errors.Is(listErr, ErrUnreachable) && !errors.Is(listErr, ErrDenied) {
				t.Errorf("listing: %v", listErr)
			}
			if !errors.Is(resolveErr, ErrUnreachable) && !errors.Is(resolveErr, ErrDenied) {
				t.Errorf("resolving: %v", resolveErr)
			}
			// Three answers at most, and what lies in buffers of the network.
			if n := written.Load(); n > 3*(maxBody+8<<20) {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

// TestEndlessLogins: the ping and the token service do not end.
func TestEndlessLogins(t *testing.T) {
	for name, serve := range map[string]func(net *internet, endless http.HandlerFunc){
		"ping": func(net *internet, endless http.HandlerFunc) { net.serve(host, endless) },
		"token": func(net *internet, endless http.HandlerFunc) {
			net.serve(host, loginWith("https://auth.example.com/token", newRegistry()))
			net.serve("auth.example.com", endless)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written atomic.Int64
			net := newInternet(t)
			serve(net, func(w http.ResponseWriter, r *http.Request) { pour(w, r, make([]byte, 1<<16), 0, &written) })
			client := net.client()
			client.timeout = time.Second
			if _, err := client.Tags(t.Context(), access(t, dockerConfig(host), host), repository); !errors.Is(err, ErrUnreachable) {
				t.Errorf("error %v", err)
			}
			if n := written.Load(); n > 2*(maxBody+8<<20) {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

func TestHugeManifests(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	layer := fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":%q}`, types.OCILayer, digest)
	config := fmt.Sprintf(`"config":{"mediaType":%q,"size":99999999999,"digest":%q}`, types.OCIConfigJSON, digest)
	for name, tc := range map[string]struct {
		text  string
		fails bool
	}{
		"longer than registries take":  {`{"layers":[]` + strings.Repeat(" ", maxBody) + `}`, true},
		"as long as registries take":   {`{"layers":[],"config":{}` + strings.Repeat(" ", maxBody-25) + `}`, false},
		"more layers than are sane":    {`{` + config + `,"layers":[` + strings.Repeat(layer+",", maxLayers) + layer + `]}`, true},
		"a configuration of 100 GB":    {`{` + config + `,"layers":[` + layer + `]}`, false},
		"an index of very many images": {`{"manifests":[` + strings.Repeat(strings.Replace(layer, string(types.OCILayer), string(types.OCIManifestSchema1), 1)+",", 20000) + layer + `]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			net := newInternet(t)
			answered := answerManifest(types.OCIManifestSchema1, tc.text)
			net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, digest) {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				answered.ServeHTTP(w, r)
			}))
			got, err := net.client().Resolve(t.Context(), access(t, nil, host), repository, "v1")
			if (err != nil) != tc.fails {
				t.Errorf("got %d platforms, %v", len(got.Platforms), err)
			}
			seen := net.requests(host)
			if len(seen) > 6 {
				t.Errorf("asked %d times", len(seen))
			}
			if slices.ContainsFunc(seen, func(s seenRequest) bool { return strings.Contains(s.path, "/blobs/") }) {
				t.Errorf("the configuration was asked for: %+v", seen)
			}
		})
	}
}

// TestOneFlight: many who ask for the same at once share one answer, and whoever goes does not take it from the others.
func TestOneFlight(t *testing.T) {
	made := image(t)
	raw, _ := made.RawManifest()
	var asked atomic.Int64
	arrived, release := make(chan struct{}), make(chan struct{})
	net := newInternet(t)
	net.serve(host, hostile(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if asked.Add(1) == 1 {
			close(arrived)
		}
		<-release
		w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
		w.Write(raw)
	}))
	client, a := net.client(), access(t, nil, host)
	impatient, leave := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := client.Read(impatient, a, repository, digestOf(t, made)); err == nil {
			t.Error("whoever goes gets an answer")
		}
	})
	<-arrived
	for range 20 {
		group.Go(func() {
			if _, err := client.Read(t.Context(), a, repository, digestOf(t, made)); err != nil {
				t.Error(err)
			}
		})
	}
	leave()
	close(release)
	group.Wait()
	if n := asked.Load(); n > 3 { // those that came after the flight may begin another
		t.Errorf("asked %d times", n)
	}
}
