package keyservice

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// handler is the HTTP side of a Releaser.
type handler struct {
	releaser *Releaser
	metrics  *metrics
	clock    clock.PassiveClock
	log      logr.Logger
	// slots bounds the calls that are decided at the same time.
	slots chan struct{}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	started := h.clock.Now()
	var request protocol.ReleaseRequest
	err := readJSON(w, req, &request)
	if err == nil {
		err = checkBounds(&request.Volume)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, &protocol.Error{Message: "the request cannot be read: " + err.Error()})
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-req.Context().Done():
		h.refuse(w, &request, &protocol.Error{
			Reason: v1alpha1.ReasonLookupFailed, Temporary: true,
			Message: "the key service has more calls than it decides at a time", Remedy: protocol.RemedyRetry,
		})
		return
	}

	material, refusal := h.releaser.Release(req.Context(), bearer(req), &request)
	took := h.clock.Since(started)
	if refusal != nil {
		h.metrics.refused(refusal.Reason, took)
		h.refuse(w, &request, refusal)
		return
	}
	defer material.Wipe()
	h.metrics.released(took)
	h.log.Info("Key released", "namespace", request.Volume.PodNamespace, "pod", request.Volume.PodName,
		"license", request.Volume.License, "volume", request.Volume.Handle)
	body := writeJSON(w, http.StatusOK, protocol.ReleaseResponse{Files: map[string][]byte{v1alpha1.KeyFileName: material.Bytes()}})
	clear(body)
}

func (h *handler) refuse(w http.ResponseWriter, request *protocol.ReleaseRequest, e *protocol.Error) {
	values := []any{"reason", e.Reason, "message", e.Message, "namespace", request.Volume.PodNamespace, "pod", request.Volume.PodName,
		"license", request.Volume.License, "volume", request.Volume.Handle}
	if e.Cause != nil {
		values = append(values, "cause", e.Cause.Error())
	}
	h.log.Info("Key refused", values...)
	if e.Temporary {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, statusCode(e), e)
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
