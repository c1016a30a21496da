package keyservice

import (
	"errors"
	"fmt"
	"net/http"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
)

// Error is a refusal of a key, as the server decides it and as the client returns it. It never holds a token or a byte
// of a key.
type Error struct {
	// Reason is the stable code.
	Reason v1alpha1.Reason
	// Message says what is wrong, Remedy what to do about it.
	Message, Remedy string
	// Temporary says whether the same call may succeed later with nothing changed in the cluster's objects.
	Temporary bool

	cause error
}

// Error is the reason, what is wrong, and what to do about it.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Reason, e.Message)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the failure behind a temporary refusal, for the server's own log.
func (e *Error) Unwrap() error { return e.cause }

// remedyRetry is the remedy of what passes by itself.
const remedyRetry = "it is tried again; if it persists, ask your platform team to look at the modelrights operator"

// remedyDriver is the remedy where the caller is not what it should be.
const remedyDriver = "only the node driver may ask for keys, for pods on its own node: mount the key, do not ask for it"

func refuse(reason v1alpha1.Reason, remedy, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

// lookupFailed refuses because something could not be found out. What went wrong is for the server's log: it speaks of
// objects that the pod's owner may not know of.
func lookupFailed(what string, cause error) *Error {
	return &Error{
		Reason: v1alpha1.ReasonLookupFailed, Temporary: true, cause: cause,
		Message: what + " could not be read from the API server",
		Remedy:  remedyRetry,
	}
}

func auditUnavailable(cause error) *Error {
	return &Error{
		Reason: v1alpha1.ReasonAuditUnavailable, Temporary: true, cause: cause,
		Message: "the release could not be written to the audit log, and no key leaves unrecorded",
		Remedy:  remedyRetry + " and at ModelAuditLog " + v1alpha1.AuditLogName,
	}
}

// refuseKey turns the error of a key source into a refusal.
func refuseKey(err error) *Error {
	var k *keys.Error
	if !errors.As(err, &k) {
		// A source that breaks its contract: its words are not passed on, since nothing vouches for them.
		return &Error{Reason: v1alpha1.ReasonKeyUnavailable, Temporary: true, Message: "the key source failed", Remedy: remedyRetry}
	}
	return &Error{Reason: k.Reason, Message: k.Message, Remedy: k.Remedy, Temporary: k.Temporary(), cause: k.Unwrap()}
}

func refuseDecision(d entitlement.Decision) *Error {
	return &Error{Reason: d.Reason, Message: d.Message(), Remedy: d.Remedy()}
}

func refuseVolume(r entitlement.Refusal) *Error {
	return &Error{Reason: r.Reason, Message: r.Message, Remedy: r.Remedy}
}

// statusCode is the HTTP status of a refusal: 503 for what passes by itself, 401 for a caller that is not the driver,
// and 403 for the rest.
func (e *Error) statusCode() int {
	switch {
	case e.Temporary:
		return http.StatusServiceUnavailable
	case e.Reason == v1alpha1.ReasonUnauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusForbidden
	}
}
