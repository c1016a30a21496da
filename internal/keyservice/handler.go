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
	// slots bounds the calls that are decided at the same time, but for renewals from the cache.
	slots chan struct{}
}

// release answers a call for a key. Who calls is found out first, from the head alone: what strangers send is not read.
func (h *handler) release(w http.ResponseWriter, req *http.Request) {
	started, ctx := h.clock.Now(), req.Context()
	c := &call{address: addressOf(req.RemoteAddr)}
	driver, leave, refusal := h.door.enter(ctx, &h.door.releases, bearer(req), c.address)
	c.driver = driver
	if refusal != nil {
		h.releaser.refused(c, refusal)
		h.refuse(w, c, refusal, started)
		return
	}
	defer leave()
	if !read(w, req, &c.request, &c.request.Volume, strict) {
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
	body := writeJSON(w, http.StatusOK, protocol.ReleaseResponse{
		Files:        map[string][]byte{v1alpha1.KeyFileName: material.Bytes()},
		LeaseSeconds: leaseSeconds(c.use.License),
	})
	clear(body)
}

// renew answers the call for a longer lease.
func (h *handler) renew(w http.ResponseWriter, req *http.Request) {
	address := addressOf(req.RemoteAddr)
	var c renewal
	driver, leave, refusal := h.door.enter(req.Context(), &h.door.renewals, bearer(req), address)
	c.driver = driver
	if refusal == nil {
		defer leave()
		if !read(w, req, &c.request, &c.request.Volume, lenient) {
			return
		}
		answer, err := h.releaser.renew(req.Context(), &c)
		if !errors.As(err, &refusal) {
			h.decided(&c, &answer, err)
			writeJSON(w, http.StatusOK, answer)
			return
		}
	}
	h.metrics.renewals.WithLabelValues(resultRefused, string(refusal.Reason)).Inc()
	h.refuseOther(w, "Renewal refused", refusal, address, driver, &c.request.Volume)
}

// decided counts and logs what becomes of a lease. Where that could not be decided, it is kept.
func (h *handler) decided(c *renewal, answer *protocol.RenewResponse, err error) {
	log := h.log
	var why *undecided
	if errors.As(err, &why) {
		*answer = keep(why.reason, why.message)
		if why.cause != nil {
			log = log.WithValues("cause", why.cause.Error())
		}
	}
	h.metrics.renewals.WithLabelValues(string(answer.Verdict), string(answer.Reason)).Inc()
	if answer.Verdict == protocol.Renewed {
		log = log.V(1)
	}
	log.Info("Lease decided", append(aboutVolume(&c.request.Volume), "node", c.driver.node, "verdict", answer.Verdict,
		"reason", answer.Reason, "message", answer.Message)...)
}

// report answers a report of a driver.
func (h *handler) report(w http.ResponseWriter, req *http.Request) {
	ctx, address := req.Context(), addressOf(req.RemoteAddr)
	var c nodeReport
	driver, leave, refusal := h.door.enter(ctx, &h.door.reports, bearer(req), address)
	c.driver = driver
	event := ""
	if refusal == nil {
		defer leave()
		if !read(w, req, &c.request, &c.request.Volume, lenient) {
			return
		}
		if err := checkReport(&c.request); err != nil {
			writeJSON(w, http.StatusBadRequest, &protocol.Error{Message: "the request cannot be read: " + err.Error()})
			return
		}
		event = string(c.request.Event)
		refusal = h.takeSlot(ctx)
	}
	if refusal == nil {
		defer func() { <-h.slots }()
		refusal = h.releaser.report(ctx, &c)
	}
	if refusal != nil {
		h.metrics.reports.WithLabelValues(event, string(refusal.Reason)).Inc()
		h.refuseOther(w, "Report refused", refusal, address, driver, &c.request.Volume)
		return
	}
	h.metrics.reports.WithLabelValues(event, "").Inc()
	if took, ok := h.releaser.revokedAgo(&c); ok {
		h.metrics.revocation.Observe(took.Seconds())
	}
	h.log.Info("Report taken", append(aboutVolume(&c.request.Volume), "node", driver.node, "event", c.request.Event, "reason", c.request.Reason)...)
	writeJSON(w, http.StatusOK, protocol.ReportResponse{})
}

// read reads a call's body, or answers that it cannot.
func read(w http.ResponseWriter, req *http.Request, into any, volume *protocol.Volume, fields fieldRule) bool {
	// The time of the whole request may be over by now. Where there is no connection, there is no deadline either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readBodyTimeout))
	err := readJSON(w, req, into, fields)
	if err == nil {
		err = checkBounds(volume)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, &protocol.Error{Message: "the request cannot be read: " + err.Error()})
	}
	return err == nil
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

// refuse answers a call for a key with a refusal and tells the operator's log of it.
func (h *handler) refuse(w http.ResponseWriter, c *call, e *protocol.Error, started time.Time) {
	h.metrics.refused(e.Reason, h.clock.Since(started))
	h.refuseOther(w, "Key refused", e, c.address, c.driver, &c.request.Volume)
}

// refuseOther answers with a refusal and tells the operator's log of it. What is asked too often is a debug line: it may
// come without end.
func (h *handler) refuseOther(w http.ResponseWriter, what string, e *protocol.Error, address string, driver holder, v *protocol.Volume) {
	values := append([]any{"reason", e.Reason, "message", e.Message, "address", address, "node", driver.node}, aboutVolume(v)...)
	if e.Cause != nil {
		values = append(values, "cause", e.Cause.Error())
	}
	log := h.log
	if e.Reason == v1alpha1.ReasonTooManyRequests {
		log = log.V(1)
	}
	log.Info(what, values...)
	if e.Temporary {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds(e.RetryAfter)))
	}
	writeJSON(w, statusCode(e), e)
}

// aboutVolume says in a log which volume a call is about, as it claims.
func aboutVolume(v *protocol.Volume) []any {
	return []any{"namespace", v.PodNamespace, "pod", v.PodName, "license", v.License, "volume", v.Handle}
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
	errNoJSON      = errors.New("the body is not the JSON object that is taken here")
	errEvent       = errors.New("the event is none that is known")
)

// checkBounds: what will stand in logs and messages is of bounded length.
func checkBounds(v *protocol.Volume) error {
	if max(len(v.PodNamespace), len(v.PodName), len(v.PodUID), len(v.License), len(v.Handle)) > maxName {
		return errTooLong
	}
	return nil
}

// checkReport: the report is of something known, and its reason is a reason's name.
func checkReport(r *protocol.ReportRequest) error {
	if r.Event != protocol.Unpublished && r.Event != protocol.Wiped {
		return errEvent
	}
	other := func(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') }
	if len(r.Reason) > maxReason || strings.ContainsFunc(string(r.Reason), other) {
		return errTooLong
	}
	return nil
}

// maxReason is longer than any reason.
const maxReason = 40

// maxName is the length of the longest name in Kubernetes, a DNS subdomain.
const maxName = 253

// fieldRule says what becomes of fields that are not known: see package protocol.
type fieldRule bool

const (
	strict  fieldRule = true
	lenient fieldRule = false
)

// readJSON reads a body that holds exactly one JSON value.
func readJSON(w http.ResponseWriter, req *http.Request, into any, fields fieldRule) error {
	if media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errContentType
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, req.Body, protocol.MaxRequestBytes))
	if fields == strict {
		decoder.DisallowUnknownFields()
	}
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
