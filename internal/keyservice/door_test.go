package keyservice

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/test/builders"
)

const (
	driverAddress = "192.0.2.1:40000"
	otherAddress  = "192.0.2.66:40000"
	otherNode     = "node-b"
	otherDriver   = "driver-b-SECRETTOKEN"
)

// caller makes calls to one handler.
type caller struct {
	handler http.Handler
	bearer  string
	address string
	request protocol.ReleaseRequest
}

// caller calls for the world's pod as its node's driver.
func (w *world) caller(handler http.Handler) caller {
	return caller{handler, driverToken, driverAddress, w.request}
}

func (c caller) call(ctx context.Context, t *testing.T) *httptest.ResponseRecorder {
	t.Helper()
	w := &world{request: c.request, bearer: c.bearer}
	req := w.httpRequest(t).WithContext(ctx)
	req.RemoteAddr = c.address
	answer := httptest.NewRecorder()
	c.handler.ServeHTTP(answer, req)
	return answer
}

// addPod adds an entitled pod on a node, and returns what its node's driver asks for it.
func (w *world) addPod(name, onNode string) protocol.ReleaseRequest {
	pod := builders.Pod(namespace, name).ServiceAccount("llm-server").Container("server", modelImage).KeyVolume(licenseName, "server").Obj()
	uid, token := "uid-"+name, name+"-SECRETTOKEN"
	pod.UID, pod.Spec.NodeName = types.UID(uid), onNode
	w.more = append(w.more, pod)
	w.tokens[token] = &tokenInfo{[]string{protocol.AudiencePod}, bound("system:serviceaccount:ml-prod:llm-server", name, uid, onNode)}
	return protocol.ReleaseRequest{PodToken: token, Volume: protocol.Volume{
		PodNamespace: namespace, PodName: name, PodUID: uid, License: licenseName, Handle: "csi-" + name,
	}}
}

// addDriver adds the driver of otherNode.
func (w *world) addDriver() {
	w.tokens[otherDriver] = &tokenInfo{[]string{protocol.AudienceDriver},
		bound("system:serviceaccount:modelrights-node:modelrights-node", "modelrights-node-y", "driver-b-uid", otherNode)}
}

// A driver that asks for one pod's key without end gets it a few times, then once a minute. Each refusal says when to come
// again, and is handed to the log to be coalesced.
func TestReleasesOfOnePodAreBounded(t *testing.T) {
	w := newWorld(t)
	beside := w.addPod("llm-1", node)
	c := w.caller(w.handler(t))
	for i := range 100 {
		answer := c.call(t.Context(), t)
		switch {
		case i < podRate.Burst && answer.Code != http.StatusOK:
			t.Fatalf("call %d: status %d: %s", i, answer.Code, answer.Body)
		case i >= podRate.Burst && (answer.Code != http.StatusTooManyRequests || answer.Header().Get("Retry-After") != "60"):
			t.Fatalf("call %d: status %d, Retry-After %q", i, answer.Code, answer.Header().Get("Retry-After"))
		}
	}
	if n := w.audit.released(node); n != podRate.Burst {
		t.Errorf("%d releases were logged, want %d", n, podRate.Burst)
	}
	if len(w.audit.submitted) != 100-podRate.Burst {
		t.Errorf("%d refusals were handed to the log", len(w.audit.submitted))
	}
	for _, e := range w.audit.submitted {
		if e.Reason != v1alpha1.ReasonTooManyRequests || e.Pod.UID != podUID || e.Node != node {
			t.Fatalf("refusal %+v", e)
		}
	}
	other := c
	other.request = beside
	if answer := other.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("another pod of the node: status %d: %s", answer.Code, answer.Body)
	}
	w.clock.SetTime(now.Add(time.Minute))
	if answer := c.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("a minute later: status %d: %s", answer.Code, answer.Body)
	}
	w.noSecrets(t)
}

// Where nothing was released, nothing is counted: a pod that waits for a grant, or for the log, is told so each time, and
// has its key as soon as it may.
func TestRefusalsDoNotCount(t *testing.T) {
	tests := map[string]struct {
		breaks, repairs func(*world)
		reason          v1alpha1.Reason
	}{
		"rights cannot be read": {func(w *world) { w.failing["ModelGrant"] = errBroken }, func(w *world) { delete(w.failing, "ModelGrant") },
			v1alpha1.ReasonLookupFailed},
		"key cannot be read": {func(w *world) { w.failing["Secret"] = errBroken }, func(w *world) { delete(w.failing, "Secret") },
			v1alpha1.ReasonKeyUnavailable},
		"log takes no entry": {func(w *world) { w.audit.err = errBroken }, func(w *world) { w.audit.err = nil }, v1alpha1.ReasonAuditUnavailable},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.breaks(w)
			c := w.caller(w.handler(t))
			for range 4 * podRate.Burst {
				if answer := c.call(t.Context(), t); !strings.Contains(answer.Body.String(), string(tc.reason)) {
					t.Fatalf("status %d: %s", answer.Code, answer.Body)
				}
			}
			tc.repairs(w)
			if answer := c.call(t.Context(), t); answer.Code != http.StatusOK {
				t.Errorf("status %d: %s", answer.Code, answer.Body)
			}
		})
	}
}

// A caller that hangs up while the entry is written is counted: the entry may be in the log all the same.
func TestHangingUpCounts(t *testing.T) {
	w := newWorld(t)
	w.audit.hold = map[string]chan struct{}{node: make(chan struct{})}
	var hangUp context.CancelFunc
	w.source = func(source keys.Source) keys.Source {
		return sourceFunc(func(ctx context.Context, l *v1alpha1.ModelLicense, name string) (keys.Material, error) {
			defer hangUp()
			return source.Fetch(ctx, l, name)
		})
	}
	c := w.caller(w.handler(t))
	for range podRate.Burst {
		ctx, cancel := context.WithCancel(t.Context())
		hangUp = cancel
		answer := c.call(ctx, t)
		cancel()
		if answer.Code != http.StatusServiceUnavailable {
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
	}
	if answer := c.call(t.Context(), t); answer.Code != http.StatusTooManyRequests {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
}

// One node floods the service, and its entries take for ever: it has its turns and no more, and another node's pod has its
// key at once.
func TestFloodingNode(t *testing.T) {
	w := newWorld(t)
	w.addDriver()
	hold := make(chan struct{})
	w.audit.hold = map[string]chan struct{}{node: hold}
	other := caller{bearer: otherDriver, address: otherAddress, request: w.addPod("llm-b", otherNode)}
	s, err := NewServer(w.releaser(t), ServerOptions{Metrics: prometheus.NewRegistry(), MaxConcurrent: protocol.MaxCallsPerNode + 1, Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	flood := w.caller(s.http.Handler)
	other.handler = s.http.Handler

	const calls = 200
	var tooMany atomic.Int32
	var done sync.WaitGroup
	for range calls {
		done.Go(func() {
			if flood.call(t.Context(), t).Code == http.StatusTooManyRequests {
				tooMany.Add(1)
			}
		})
	}
	held := func() int { return len(slices.DeleteFunc(w.steps.list(), func(s string) bool { return s != "held" })) }
	// All are there: some are decided, some wait, and the rest were refused, before any has waited in vain.
	gomega.NewWithT(t).Eventually(func() bool {
		return held() == protocol.MaxCallsPerNode && tooMany.Load() >= calls-protocol.MaxCallsPerNode-nodeWaiting
	}).WithTimeout(waitTimeout - time.Second).Should(gomega.BeTrue())

	if answer := other.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("the other node: status %d: %s", answer.Code, answer.Body)
	}
	if n := held(); n != protocol.MaxCallsPerNode {
		t.Errorf("%d calls of the node were decided at a time, want %d", n, protocol.MaxCallsPerNode)
	}
	close(hold)
	done.Wait()
	if n := w.audit.released(node); n > podRate.Burst {
		t.Errorf("%d releases were logged of the node, want at most %d", n, podRate.Burst)
	}
}

// A node asks for the keys of 500 pods as fast as its driver does, and none is refused.
func TestBurstOfPods(t *testing.T) {
	w := newWorld(t)
	requests := make(chan protocol.ReleaseRequest, 500)
	for i := range cap(requests) {
		requests <- w.addPod("llm-burst-"+strconv.Itoa(i), node)
	}
	close(requests)
	c := w.caller(w.handler(t))
	var drivers sync.WaitGroup
	for range protocol.MaxCallsPerNode {
		drivers.Go(func() {
			for request := range requests {
				mine := c
				mine.request = request
				if answer := mine.call(t.Context(), t); answer.Code != http.StatusOK {
					t.Errorf("status %d: %s", answer.Code, answer.Body)
				}
			}
		})
	}
	drivers.Wait()
	if n := w.audit.released(node); n != cap(requests) {
		t.Errorf("%d releases, want %d", n, cap(requests))
	}
}

// A node that calls without end costs the API server nothing beyond its rate, whatever it calls for.
func TestCallsOfOneNodeAreBounded(t *testing.T) {
	w := newWorld(t)
	w.addDriver()
	var reviews atomic.Int32
	w.reviewing = func(string) { reviews.Add(1) }
	other := w.addPod("llm-b", otherNode)
	c := w.caller(w.handler(t))
	c.request.PodToken = "made-up-SECRETTOKEN"
	refused := 0
	for range nodeRate.Burst + 50 {
		if c.call(t.Context(), t).Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused != 50 || int(reviews.Load()) != 2*nodeRate.Burst {
		t.Errorf("%d calls were refused and %d tokens reviewed", refused, reviews.Load())
	}
	c.bearer, c.request = otherDriver, other
	if answer := c.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("another node: status %d: %s", answer.Code, answer.Body)
	}
	w.noSecrets(t)
}

// Calls that are nobody's cost few reviews, and keep no driver out: neither one from elsewhere, nor one from the same address
// that was there before.
func TestFloodOfStrangers(t *testing.T) {
	w := newWorld(t)
	w.addDriver()
	var reviews atomic.Int32
	w.reviewing = func(token string) {
		if token != driverToken && token != podToken {
			reviews.Add(1)
		}
	}
	other := w.addPod("llm-b", otherNode)
	handler := w.handler(t)
	driver := w.caller(handler)
	if answer := driver.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	stranger := driver
	for i := range 1000 {
		stranger.bearer = "made-up-SECRETTOKEN" + strconv.Itoa(i)
		if code := stranger.call(t.Context(), t).Code; code != http.StatusUnauthorized && code != http.StatusTooManyRequests {
			t.Fatalf("status %d", code)
		}
	}
	// The driver's first call fell under the address's limits, too.
	if got := int(reviews.Load()); got != addressRate.Burst-1 {
		t.Errorf("%d tokens were reviewed, want %d", got, addressRate.Burst-1)
	}
	if answer := driver.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("the driver at the strangers' address: status %d: %s", answer.Code, answer.Body)
	}
	elsewhere := caller{handler, otherDriver, otherAddress, other}
	if answer := elsewhere.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Errorf("another driver: status %d: %s", answer.Code, answer.Body)
	}
	for _, e := range w.audit.submitted {
		if e.Namespace != "" || e.Actor != "" {
			t.Fatalf("a stranger's call is logged as somebody's: %+v", e)
		}
	}
	w.noSecrets(t)
}

// Reviews that take for ever hold up those of the same address, and however many addresses they come from, no driver that was
// there before.
func TestSlowReviews(t *testing.T) {
	tests := map[string]struct {
		address func(i int) string
		// known is set where the driver was there before.
		known bool
		under int32
	}{
		"one address":    {func(int) string { return otherAddress }, false, addressReviews},
		"many addresses": {func(i int) string { return fmt.Sprintf("192.0.2.%d:40000", 100+i) }, true, maxReviews},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			finish, under := make(chan struct{}), atomic.Int32{}
			w.reviewing = func(token string) {
				if strings.HasPrefix(token, "made-up") {
					under.Add(1)
					<-finish
				}
			}
			driver := w.caller(w.handler(t))
			call := func() {
				t.Helper()
				if answer := driver.call(t.Context(), t); answer.Code != http.StatusOK {
					t.Errorf("the driver: status %d: %s", answer.Code, answer.Body)
				}
			}
			if tc.known {
				call()
			}
			ctx, cancel := context.WithCancel(t.Context())
			var strangers sync.WaitGroup
			var refused atomic.Int32
			const calls = 50
			for i := range calls {
				stranger := caller{driver.handler, fmt.Sprintf("made-up-%d", i), tc.address(i), w.request}
				strangers.Go(func() {
					stranger.call(ctx, t)
					refused.Add(1)
				})
			}
			eventually := gomega.NewWithT(t).Eventually
			eventually(under.Load).WithTimeout(time.Minute).Should(gomega.Equal(tc.under))
			call()
			// Those that wait give up, without a review.
			cancel()
			eventually(refused.Load).WithTimeout(time.Minute).Should(gomega.Equal(calls - tc.under))
			if got := under.Load(); got != tc.under {
				t.Errorf("%d reviews at a time, want %d", got, tc.under)
			}
			close(finish)
			strangers.Wait()
		})
	}
}

// That a token was confirmed once counts for nothing when it is not confirmed any more.
func TestEveryTokenIsReviewed(t *testing.T) {
	w := newWorld(t)
	c := w.caller(w.handler(t))
	if answer := c.call(t.Context(), t); answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	delete(w.tokens, driverToken)
	for range addressRate.Burst {
		if answer := c.call(t.Context(), t); answer.Code != http.StatusUnauthorized {
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
	}
	// By now it falls under the limits of its address.
	if answer := c.call(t.Context(), t); answer.Code != http.StatusTooManyRequests {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
}
