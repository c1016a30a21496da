package webhooks

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxReview is what a review without a length counts as: the most that is read of one, in bytes.
	maxReview = 7 << 20

	// largeReview is the size in bytes from which a review counts as large: many times that of an ordinary pod.
	largeReview = 256 << 10

	// roomForEach bounds the reviews that are decoded at the same time, in bytes, once for ordinary and once for large
	// ones. Decoded, a review of empty containers takes some thirty times its size.
	roomForEach = 16 << 20

	// roomWait is how long a review waits for room: less than the webhooks' timeoutSeconds of 3.
	roomWait = 2 * time.Second
)

// admittance bounds the memory that reviews take. Large ones wait for room of their own, so that nobody who sends
// monsters holds up ordinary pods. Who finds no room in time is asked to try again, and not admitted.
type admittance struct {
	ordinary, large *semaphore.Weighted
	wait            time.Duration
}

func newAdmittance() *admittance {
	return &admittance{ordinary: semaphore.NewWeighted(roomForEach), large: semaphore.NewWeighted(roomForEach), wait: roomWait}
}

// guard lets requests through to the handler as there is room.
func (a *admittance) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		size := req.ContentLength
		if size < 0 || size > maxReview {
			size = maxReview
		}
		room := a.ordinary
		if size >= largeReview {
			room = a.large
		}
		ctx, cancel := context.WithTimeout(req.Context(), a.wait)
		defer cancel()
		if err := room.Acquire(ctx, size); err != nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "modelrights decides on as many pods as it has memory for; try again", http.StatusTooManyRequests)
			return
		}
		defer room.Release(size)
		next.ServeHTTP(w, req)
	})
}
