package registry

import (
	"errors"
	"time"
)

// What can go wrong; errors of this package wrap one of these, and other errors are of the kind ErrUnreachable.
var (
	// ErrUnreachable means that the registry gave no answer, or none that can be used.
	ErrUnreachable = errors.New("the registry cannot be read")
	// ErrDenied means that the registry refused the credentials, or wants some.
	ErrDenied = errors.New("the registry refuses to be read")
	// ErrNotFound means that the registry does not have the repository, tag or digest.
	ErrNotFound = errors.New("the registry does not have it")
	// ErrNotAllowed means that nobody named the host, so that it is not contacted.
	ErrNotAllowed = errors.New("the registry's host is named by no licence and no governed repository")
)

// BackoffError means that a host was not asked, since it answered badly before or said to wait.
type BackoffError struct {
	// Host is the registry's.
	Host string
	// Until is when it is asked again.
	Until time.Time
	// Cause is why.
	Cause error
}

func (e *BackoffError) Error() string {
	return "registry " + e.Host + " is not asked before " + e.Until.UTC().Format(time.RFC3339) + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *BackoffError) Unwrap() error { return e.Cause }
