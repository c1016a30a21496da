package keyservice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// handler is the HTTP side of a Releaser.
type handler struct {
	releaser *Releaser
	door     *door
	metrics  *metrics
	clock    clock.PassiveClock
	log      logr.Logger
	// slots bounds the calls that are decided at the same time.
	slots chan struct{}
}

// ServeHTTP answers a call. Who calls is found out first, from the head alone: what strangers send is not read.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	started, ctx := h.clock.Now(), req.Context()
	c := &call{address: addressOf(req.RemoteAddr), bearer: bearer(req)}
	leave, refusal := h.door.enter(ctx, c)
	if refusal != nil {
		h.releaser.refused(c, refusal)
		h.refuse(w, c, refusal, started)
		return
	}
	defer leave()
	// The time of the whole request may be over by now. Where there is no connection, there is no deadline either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readBodyTimeout))
	err := readJSON(w, req, &c.request)
	if err == nil {
		err = checkBounds(&c.request.Volume)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, &protocol.Error{Message: "the request cannot be read: " + err.Error()})
		return
	}
	if refusal := h.takeSlot(ctx); refusal != nil {
		h.releaser.refused(c, refusal)
		h.refuse(w, c, refusal, started)
		return
	}
	defer func() { <-h.slots }()

	material, refusal := h.releaser.release(ctx, c)
	if refusal != nil {
		h.refuse(w, c, refusal, started)
		return
	}
	defer material.Wipe()
	h.metrics.released(h.clock.Since(started))
	v := &c.request.Volume
	h.log.Info("Key released", "namespace", v.PodNamespace, "pod", v.PodName, "license", v.License, "volume", v.Handle)
	body := writeJSON(w, http.StatusOK, protocol.ReleaseResponse{Files: map[string][]byte{v1alpha1.KeyFileName: material.Bytes()}})
	clear(body)
}

// takeSlot waits for one of the slots.
func (h *handler) takeSlot(ctx context.Context) *protocol.Error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return tooManyRequests(time.Second, "the key service has more calls than it decides at a time")
	}
}

// refuse answers with a refusal and tells the operator's log of it. What is asked too often is a debug line: it may come
// without end.
func (h *handler) refuse(w http.ResponseWriter, c *call, e *protocol.Error, started time.Time) {
	h.metrics.refused(e.Reason, h.clock.Since(started))
	v := &c.request.Volume
	values := []any{"reason", e.Reason, "message", e.Message, "address", c.address, "node", c.driver.node,
		"namespace", v.PodNamespace, "pod", v.PodName, "license", v.License, "volume", v.Handle}
	if e.Cause != nil {
		values = append(values, "cause", e.Cause.Error())
	}
	log := h.log
	if e.Reason == v1alpha1.ReasonTooManyRequests {
		log = log.V(1)
	}
	log.Info("Key refused", values...)
	if e.Temporary {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds(e.RetryAfter)))
	}
	writeJSON(w, statusCode(e), e)
}

// retryAfterSeconds rounds up, to at least 1.
func retryAfterSeconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}

// bearer is the token of the Authorization header, or empty.
func bearer(req *http.Request) string {
	scheme, token, ok := strings.Cut(req.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// What is wrong with a request, in words that quote nothing of it: it carries a token.
var (
	errContentType = errors.New("the content type is not application/json")
	errTooLarge    = errors.New("the body is longer than " + strconv.Itoa(protocol.MaxRequestBytes) + " bytes")
	errTooLong     = errors.New("a name is longer than any that Kubernetes allows")
	errNoJSON      = errors.New("the body is not the JSON object that POST " + protocol.ReleasePath + " takes")
)

// checkBounds: what will stand in logs and messages is of bounded length.
func checkBounds(v *protocol.Volume) error {
	if max(len(v.PodNamespace), len(v.PodName), len(v.PodUID), len(v.License), len(v.Handle)) > maxName {
		return errTooLong
	}
	return nil
}

// maxName is the length of the longest name in Kubernetes, a DNS subdomain.
const maxName = 253

// readJSON reads a body that holds exactly one JSON value of known fields.
func readJSON(w http.ResponseWriter, req *http.Request, into any) error {
	if media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errContentType
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, req.Body, protocol.MaxRequestBytes))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		_, err = decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	return errNoJSON
}

// writeJSON answers and returns the body that was written, for the caller to wipe.
func writeJSON(w http.ResponseWriter, status int, value any) []byte {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(value); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone; it will ask again
	return body.Bytes()
}
