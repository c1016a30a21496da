package keyservice

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keys"
)

// recordingWriter records when the answer begins and when the key is in it.
type recordingWriter struct {
	http.ResponseWriter
	steps *steps
}

func (w recordingWriter) WriteHeader(status int) {
	w.steps.add("answer begins")
	w.ResponseWriter.WriteHeader(status)
}

func (w recordingWriter) Write(p []byte) (int, error) {
	w.steps.add("bytes leave")
	return w.ResponseWriter.Write(p)
}

// No byte of the answer leaves before the audit entry is durable.
func TestNoByteBeforeTheEntryIsDurable(t *testing.T) {
	w := newWorld(t)
	w.audit.gate, w.audit.begun = make(chan struct{}), make(chan struct{})
	answer := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.handler(t).ServeHTTP(recordingWriter{answer, w.steps}, w.httpRequest(t))
	}()
	select {
	case <-w.audit.begun:
	case <-done:
		t.Fatalf("answered without asking the log: %v", w.steps.list())
	}
	if got := w.steps.list(); !slices.Equal(got, []string{"fetch", "seats.Release"}) {
		t.Errorf("while the entry was not durable: %v", got)
	}
	close(w.audit.gate)
	<-done
	want := []string{"fetch", "seats.Release", "durable", "answer begins", "bytes leave"}
	if got := w.steps.list(); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// If the log cannot be written, the key does not leave: not in the answer's body, its head, a log line or an Event.
func TestNoKeyWithoutAuditEntry(t *testing.T) {
	w := newWorld(t)
	w.audit.err = errBroken
	answer := w.call(t)
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), string(v1alpha1.ReasonAuditUnavailable)) {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	var head strings.Builder
	if err := answer.Header().Write(&head); err != nil {
		t.Fatal(err)
	}
	if got := w.steps.list(); !slices.Equal(got, []string{"fetch", "seats.Release"}) {
		t.Errorf("steps %v: the test must have had a key to keep back", got)
	}
	w.noSecrets(t, answer.Body.String(), head.String())
}

// A key that is kept back does not stay in memory.
func TestKeyKeptBackIsWiped(t *testing.T) {
	w := newWorld(t)
	w.audit.err = errBroken
	c := &call{request: w.request, driver: holder{node: node}}
	if w.releaser(t).decide(t.Context(), c) == nil {
		t.Fatal("released")
	}
	left := c.material.Bytes()
	if len(left) == 0 {
		t.Fatal("the test must have had a key to keep back")
	}
	if len(bytes.Trim(left, "\x00")) != 0 {
		t.Error("the key is still there")
	}
}

type sourceFunc func(context.Context, *v1alpha1.ModelLicense, string) (keys.Material, error)

func (f sourceFunc) Fetch(ctx context.Context, l *v1alpha1.ModelLicense, name string) (keys.Material, error) {
	return f(ctx, l, name)
}

// A key that is missing leaves no record of a release.
func TestNoReleaseLoggedWithoutKey(t *testing.T) {
	w := newWorld(t)
	w.noSecret = true
	w.call(t)
	if len(w.audit.appended) != 0 {
		t.Errorf("a release was logged: %+v", w.audit.appended)
	}
}

// A source that breaks its contract and quotes the key in an error is not quoted.
func TestSourceThatQuotesTheKey(t *testing.T) {
	w := newWorld(t)
	w.source = func(keys.Source) keys.Source {
		return sourceFunc(func(context.Context, *v1alpha1.ModelLicense, string) (keys.Material, error) {
			return keys.Material{}, &quotingError{w.secret}
		})
	}
	answer := w.call(t)
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", answer.Code)
	}
	w.noSecrets(t, answer.Body.String())
}

type quotingError struct{ secret string }

func (e *quotingError) Error() string { return "cannot unwrap " + e.secret }

// Two operators that are asked for the same key at the same time both release and both log.
func TestTwoOperators(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		if answer := w.call(t); answer.Code != http.StatusOK {
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
	}
	if len(w.audit.appended) != 2 {
		t.Errorf("%d releases logged, want 2", len(w.audit.appended))
	}
}
