package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

const (
	// maxInFlight is how many requests one server answers for us at once, so that a slow one keeps few waiting.
	maxInFlight = 4
	// firstBackoff and lastBackoff bound how long a server that failed is left alone: twice as long each time.
	firstBackoff = 2 * time.Second
	lastBackoff  = 5 * time.Minute
	// maxRetryAfter bounds how long a server may ask to be left alone.
	maxRetryAfter = time.Hour
	// maxServers bounds the servers that are remembered; those of licences are far fewer.
	maxServers = 4096
)

// servers remembers how the servers behave that were asked.
type servers struct {
	rate  rate.Limit
	burst int
	clock clock.PassiveClock

	mu    sync.Mutex
	known map[endpoint]*server
}

// of returns the server at an endpoint. The scheme counts: that a server speaks no TLS says nothing of plain http.
func (s *servers) of(e endpoint) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[e]; ok {
		return known
	}
	if s.known == nil || len(s.known) >= maxServers {
		s.known = map[endpoint]*server{}
	}
	added := &server{name: e.name, clock: s.clock, limiter: rate.NewLimiter(s.rate, s.burst), slots: make(chan struct{}, maxInFlight)}
	s.known[e] = added
	return added
}

// server is asked at a limited rate, by a few at once, and left alone for a time after it failed.
type server struct {
	name    string
	clock   clock.PassiveClock
	limiter *rate.Limiter
	slots   chan struct{}

	mu       sync.Mutex
	failures int
	until    time.Time
	cause    error
}

var (
	errBusy     = errors.New("more is asked of it than its rate limit allows")
	errThrottle = errors.New("it asked to be left alone")
)

// enter waits for the server's turn. The error is a *BackoffError. Every enter without an error needs a leave.
func (s *server) enter(ctx context.Context) error {
	if err := s.backoff(); err != nil {
		return err
	}
	if err := s.limiter.Wait(ctx); err != nil {
		return &BackoffError{Host: s.name, Until: s.clock.Now().Add(firstBackoff), Cause: errBusy}
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return &BackoffError{Host: s.name, Until: s.clock.Now().Add(firstBackoff), Cause: errBusy}
	}
	// It may have failed meanwhile.
	if err := s.backoff(); err != nil {
		s.leave()
		return err
	}
	return nil
}

func (s *server) leave() { <-s.slots }

func (s *server) backoff() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock.Now().Before(s.until) {
		return &BackoffError{Host: s.name, Until: s.until, Cause: s.cause}
	}
	return nil
}

// answered takes notice of an answer, which may say that the server is overloaded, and in Retry-After (RFC 9110, section
// 10.2.3) for how long.
func (s *server) answered(status int, header http.Header) {
	if status != http.StatusTooManyRequests && status < http.StatusInternalServerError {
		s.mu.Lock()
		s.failures = 0
		s.mu.Unlock()
		return
	}
	now := s.clock.Now()
	if asked := retryAfter(header, now); asked > 0 {
		s.rest(now, errThrottle, min(asked, maxRetryAfter))
		return
	}
	s.rest(now, errors.New("it answered "+strconv.Itoa(status)), 0)
}

// failed takes notice of a request to which there was no answer.
func (s *server) failed(err error) { s.rest(s.clock.Now(), errors.New(explain(err)), 0) }

// rest leaves the server alone: for as long as it asked for or, where it did not, exponentially longer with each failure
// in a row. Those that come while it is left alone belong to the one before.
func (s *server) rest(now time.Time, cause error, asked time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.until) {
		return
	}
	wait := min(firstBackoff<<min(s.failures, 16), lastBackoff)
	if asked > 0 {
		wait = asked
	}
	s.failures++
	s.until, s.cause = now.Add(jitter(wait)), cause
}

func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return at.Sub(now)
	}
	return 0
}

// jitter makes a wait up to a fifth longer, so that those who wait do not come back all at once.
func jitter(wait time.Duration) time.Duration {
	return wait + rand.N(wait/5+1) //nolint:gosec // Nobody gains by guessing it.
}
