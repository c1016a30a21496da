package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestReleasesDuringAFlood floods the log with denials and key refusals of several namespaces, none like another: each
// release gets whole into the next record or two, and the flood gets its bytes and no more.
func TestReleasesDuringAFlood(t *testing.T) {
	c := newClient(t)
	var begun atomic.Int64
	l := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
		begun.Add(1)
		return c.Create(ctx, obj)
	}))
	stop := start(t, l)
	const floods, each, releases = 8, 2500, 100
	// One record may have been filled before the release came, one holds it, and one may have begun since.
	const prompt = 3
	var wg sync.WaitGroup
	for ns := range floods {
		wg.Go(func() {
			long := strings.Repeat("<", MaxLeafBytes)
			for n := range each {
				e := Entry{Type: Denied, Namespace: fmt.Sprintf("loud-%d", ns), Owner: Owner{Kind: "Job", Name: fmt.Sprint(n)}, Images: []string{fmt.Sprint(n)}}
				if n%2 == 1 {
					e.Type = KeyRefused
				}
				if n%5 == 0 {
					e.Message, e.Images, e.Pod.Name = long, []string{long}, long
				}
				l.Submit(e)
			}
		})
	}
	keys := make([]string, 8)
	for n := range keys {
		keys[n] = strings.Repeat("k", 62) + fmt.Sprint(n)
	}
	want := map[string]Entry{}
	for n := range releases {
		e := numbered(n)
		e.Keys = keys
		e.Images = []string{"registry.example.com/" + strings.Repeat("r", 234) + ":" + strings.Repeat("t", 128) + "@sha256:" + strings.Repeat("0", 64)}
		e.Time = noon
		want[e.ID] = e
		before := begun.Load()
		if _, err := l.Append(withTimeout(t, time.Minute), e); err != nil {
			t.Fatal(err)
		}
		if records := begun.Load() - before; records > prompt {
			t.Errorf("release %d waited for %d records", n, records)
		}
	}
	wg.Wait()
	stop()

	told, flood := newTally(), int64(0)
	for _, located := range readLog(t, c) {
		e := located.Entry
		if e.Type != KeyReleased {
			told.take(t, []Entry{e})
			flood++
			continue
		}
		whole := want[e.ID]
		whole.Version, whole.Writer = Version, "operator-0"
		if diff := cmp.Diff(whole, e); diff != "" {
			t.Errorf("a release is not whole in the log:\n%s", diff)
		}
		delete(want, e.ID)
	}
	if len(want) > 0 {
		t.Errorf("releases are missing from the log: %d of %d", len(want), releases)
	}
	if told.told != floods*each {
		t.Errorf("the log tells of %d denials of %d", told.told, floods*each)
	}
	// Each namespace has its burst of both kinds, a Gap entry or two, and what comes back within some seconds.
	const perNamespace = 2*DefaultNamespaceBurst + 8<<10
	for namespace, bytes := range told.byNamespace {
		if bytes > perNamespace {
			t.Errorf("%s has %d bytes, want at most %d", namespace, bytes, perNamespace)
		}
	}
	if names := len(told.byNamespace); names != floods || flood > floods*perNamespace/recordBytes {
		t.Errorf("%d entries of %d namespaces", flood, names)
	}
	if gaps := told.written[Gap]; gaps < floods || gaps > 2*floods {
		t.Errorf("%d Gap entries of %d namespaces", gaps, floods)
	}
	t.Logf("%d entries, %d bytes of the flood", flood, told.canonical)
}
