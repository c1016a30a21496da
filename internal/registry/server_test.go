package registry

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func testServer(clock *clocktesting.FakePassiveClock) *server {
	return (&servers{rate: 1e6, burst: 1e6, clock: clock}).of(endpoint{"https", host, "443"})
}

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		status     int
		retryAfter string
		want       time.Duration // zero: no backoff
	}{
		"fine":                        {status: 200},
		"denied":                      {status: 401},
		"not found":                   {status: 404},
		"too many":                    {status: 429, want: firstBackoff},
		"too many, in seconds":        {status: 429, retryAfter: "90", want: 90 * time.Second},
		"too many, at a time":         {status: 429, retryAfter: testNow.Add(time.Minute).Format(http.TimeFormat), want: time.Minute},
		"too many, for ever":          {status: 429, retryAfter: "99999999999", want: maxRetryAfter},
		"too many, at a time far off": {status: 429, retryAfter: testNow.AddDate(1, 0, 0).Format(http.TimeFormat), want: maxRetryAfter},
		"too many, at no time":        {status: 429, retryAfter: "tomorrow", want: firstBackoff},
		"too many, in the past":       {status: 429, retryAfter: "-5", want: firstBackoff},
		"failing":                     {status: 500, want: firstBackoff},
		"away for a while":            {status: 503, retryAfter: "7", want: 7 * time.Second},
		"denied, but to come later":   {status: 403, retryAfter: "7"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakePassiveClock(testNow)
			s := testServer(clock)
			s.answered(tc.status, http.Header{"Retry-After": {tc.retryAfter}})
			var backoff *BackoffError
			err := s.backoff()
			if tc.want == 0 {
				if err != nil {
					t.Errorf("left alone: %v", err)
				}
				return
			}
			if !errors.As(err, &backoff) {
				t.Fatalf("not left alone: %v", err)
			}
			if wait := backoff.Until.Sub(testNow); wait < tc.want || wait > tc.want+tc.want/5 {
				t.Errorf("left alone for %s, want %s and a fifth at most", wait, tc.want)
			}
		})
	}
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(testNow)
	s := testServer(clock)
	want := firstBackoff
	for range 12 {
		s.failed(errors.New("away"))
		s.failed(errors.New("away")) // at the same time: counts once
		wait := s.until.Sub(clock.Now())
		if wait < want || wait > want+want/5 {
			t.Errorf("left alone for %s, want %s", wait, want)
		}
		if err := s.enter(t.Context()); err == nil {
			t.Error("asked nevertheless")
		}
		clock.SetTime(s.until)
		want = min(2*want, lastBackoff)
	}
	if err := s.enter(t.Context()); err != nil {
		t.Errorf("not asked again: %v", err)
	}
	s.leave()
	s.answered(200, nil)
	s.failed(errors.New("away"))
	if wait := s.until.Sub(clock.Now()); wait > 2*firstBackoff {
		t.Errorf("after an answer, left alone for %s", wait)
	}
}

// TestAwayRegistryIsLeftAlone: of many questions for a registry that does not answer, one gets there.
func TestAwayRegistryIsLeftAlone(t *testing.T) {
	net := newInternet(t)
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	client, a := net.client(), access(t, nil, host)
	for range 20 {
		_, err := client.Resolve(t.Context(), a, repository, "v1")
		var backoff *BackoffError
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v", err)
		} else if errors.As(err, &backoff) && !backoff.Until.After(time.Now()) {
			t.Errorf("asked again at %s", backoff.Until)
		}
	}
	if n := len(net.requests(host)); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRate(t *testing.T) {
	var asked atomic.Int64
	net, server := newInternet(t), newRegistry()
	net.serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); server.ServeHTTP(w, r) }))
	client, a := net.client(), access(t, nil, host)
	client.servers.rate, client.servers.burst = 0.001, 5
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // less than the rate has the sixth wait
	defer cancel()
	var last error
	for range 20 {
		_, last = client.Tags(ctx, a, repository)
	}
	var backoff *BackoffError
	if !errors.As(last, &backoff) || !errors.Is(backoff.Cause, errBusy) {
		t.Errorf("error %v", last)
	}
	if n := asked.Load(); n > 5 {
		t.Errorf("asked %d times", n)
	}
	if other, err := client.Tags(t.Context(), access(t, nil, attacker), attacker+"/models/chat"); errors.As(err, &backoff) && errors.Is(backoff.Cause, errBusy) {
		t.Errorf("another host waits for this one: %v %v", other, err)
	}
}

func TestFewAtOnce(t *testing.T) {
	s := testServer(clocktesting.NewFakePassiveClock(testNow))
	for range maxInFlight {
		if err := s.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.enter(ctx); err == nil {
		t.Error("one more was let in")
	}
	s.leave()
	if err := s.enter(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSlotsAreGivenBack(t *testing.T) {
	net, server := newInternet(t), newRegistry()
	net.serve(host, server)
	made := image(t)
	net.push(server, repository, "v1", made)
	client := net.client()
	for _, h := range []string{host, "away.example.com"} {
		a := access(t, nil, h)
		for range 3 * maxInFlight {
			client.Resolve(t.Context(), a, h+"/models/chat", "v1")
			client.Resolve(t.Context(), a, h+"/models/chat", "gone")
			client.Tags(t.Context(), a, h+"/models/chat")
		}
	}
	for e, s := range client.servers.known {
		if len(s.slots) != 0 {
			t.Errorf("%d requests to %v never ended", len(s.slots), e)
		}
	}
}
