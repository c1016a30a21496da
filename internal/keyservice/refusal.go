package keyservice

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// remedyDriver is the remedy where the caller is not what it should be.
const remedyDriver = "only the node driver may ask for keys, for pods on its own node: mount the key, do not ask for it"

func refuse(reason v1alpha1.Reason, remedy, format string, args ...any) *protocol.Error {
	return &protocol.Error{Reason: reason, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

// lookupFailed refuses because something could not be found out. What went wrong is for the server's log: it speaks of
// objects that the pod's owner may not know of.
func lookupFailed(what string, cause error) *protocol.Error {
	return &protocol.Error{
		Reason: v1alpha1.ReasonLookupFailed, Temporary: true, Cause: cause,
		Message: what + " could not be read from the API server",
		Remedy:  protocol.RemedyRetry,
	}
}

// tooManyRequests refuses what is asked too often, or while too much else is under way. It says after what time to ask
// again.
func tooManyRequests(wait time.Duration, format string, args ...any) *protocol.Error {
	return &protocol.Error{
		Reason: v1alpha1.ReasonTooManyRequests, Temporary: true, RetryAfter: wait,
		Message: fmt.Sprintf(format, args...),
		Remedy:  "it is tried again; if it persists, ask your platform team to look at the node driver of the pod's node",
	}
}

func auditUnavailable(cause error) *protocol.Error {
	return &protocol.Error{
		Reason: v1alpha1.ReasonAuditUnavailable, Temporary: true, Cause: cause,
		Message: "the release could not be written to the audit log, and no key leaves unrecorded",
		Remedy:  protocol.RemedyRetry + " and at ModelAuditLog " + v1alpha1.AuditLogName,
	}
}

// refuseKey turns the error of a key source into a refusal.
func refuseKey(err error) *protocol.Error {
	var k *keys.Error
	if !errors.As(err, &k) {
		// A source that breaks its contract: its words are not passed on, since nothing vouches for them.
		return &protocol.Error{Reason: v1alpha1.ReasonKeyUnavailable, Temporary: true, Message: "the key source failed", Remedy: protocol.RemedyRetry}
	}
	return &protocol.Error{Reason: k.Reason, Message: k.Message, Remedy: k.Remedy, Temporary: k.Temporary(), Cause: k.Unwrap()}
}

func refuseDecision(d entitlement.Decision) *protocol.Error {
	return &protocol.Error{Reason: d.Reason, Message: d.Message(), Remedy: d.Remedy()}
}

func refuseVolume(r entitlement.Refusal) *protocol.Error {
	return &protocol.Error{Reason: r.Reason, Message: r.Message, Remedy: r.Remedy}
}

// statusCode is the HTTP status of a refusal: 429 for what is asked too often, 503 for what else passes by itself, 401 for
// a caller that is not the driver, and 403 for the rest.
func statusCode(e *protocol.Error) int {
	switch {
	case e.Reason == v1alpha1.ReasonTooManyRequests:
		return http.StatusTooManyRequests
	case e.Temporary:
		return http.StatusServiceUnavailable
	case e.Reason == v1alpha1.ReasonUnauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusForbidden
	}
}
