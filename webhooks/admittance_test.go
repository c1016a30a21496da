package webhooks

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestAdmittance(t *testing.T) {
	ordinary, large := make([]byte, 1<<10), make([]byte, 6<<20)
	tests := map[string]struct {
		under  [][]byte // reviews under way
		review []byte
		want   int
	}{
		"there is room":                            {review: ordinary, want: http.StatusOK},
		"large ones that fill their room":          {under: [][]byte{large, large}, review: large, want: http.StatusTooManyRequests},
		"large ones do not hold up ordinary ones":  {under: [][]byte{large, large}, review: ordinary, want: http.StatusOK},
		"one large one leaves room for another":    {under: [][]byte{large}, review: large, want: http.StatusOK},
		"one that does not say how large it is is": {under: [][]byte{large, large}, review: nil, want: http.StatusTooManyRequests},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAdmittance()
			a.wait = 20 * time.Millisecond
			begun, end := make(chan struct{}), make(chan struct{})
			blocking := a.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-end }))
			done := make(chan struct{})
			for _, body := range tc.under {
				go func() {
					blocking.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
					done <- struct{}{}
				}()
				<-begun
			}
			request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(tc.review))
			if tc.review == nil {
				request.ContentLength = -1
			}
			recorder := httptest.NewRecorder()
			a.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(recorder, request)
			if recorder.Code != tc.want {
				t.Errorf("answered %d, want %d", recorder.Code, tc.want)
			}
			close(end)
			for range tc.under {
				<-done
			}
			// What was taken was given back.
			if !a.ordinary.TryAcquire(roomForEach) || !a.large.TryAcquire(roomForEach) {
				t.Error("room is still taken")
			}
		})
	}
}
