package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// problem makes an error of this package of what go-containerregistry reports. The text is ours: an answer's own words
// may hold anything, even the credentials that it was sent, and conditions are read by many.
func problem(what string, err error) error {
	if err == nil {
		return nil
	}
	var backoff *BackoffError
	var answer *transport.Error
	kind := ErrUnreachable
	switch {
	case errors.As(err, &backoff):
		return fmt.Errorf("%s: %w: %w", what, ErrUnreachable, backoff)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNotAllowed):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = ErrDenied
		case http.StatusNotFound:
			kind = ErrNotFound
		}
	}
	return fmt.Errorf("%s: %w: %s", what, kind, explain(err))
}

// explain says what went wrong, in words that no registry chose.
func explain(err error) string {
	var (
		refused   *refusal
		answer    *transport.Error
		dns       *net.DNSError
		operation *net.OpError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &refused):
		return refused.text
	case errors.As(err, &answer):
		return fmt.Sprintf("it answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not trusted here"
	case errors.As(err, &hostname):
		return "its certificate is for another host"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &dns):
		return fmt.Sprintf("its name %q cannot be resolved", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it gave no answer in time"
	case errors.Is(err, context.Canceled):
		return "the operator stopped waiting"
	case errors.As(err, &operation) && operation.Op == "dial":
		return "it cannot be connected to: " + operation.Err.Error()
	case isMismatch(err):
		return "it answers with other content than the digest names"
	}
	return "its answer cannot be understood"
}

// isMismatch says that content has another digest than it was asked for by. The library has no type for it.
func isMismatch(err error) bool {
	return strings.Contains(err.Error(), "does not match requested digest") || strings.Contains(err.Error(), "error verifying")
}
