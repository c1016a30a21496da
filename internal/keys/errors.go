package keys

import (
	"fmt"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Error says why a key is not to be had. It never holds a byte of the key.
type Error struct {
	// Reason is NoKey, KeySecretMissing, KeyEmpty, KeyInvalid or KeyUnavailable.
	Reason v1alpha1.Reason
	// Message says what is wrong, Remedy what to do about it.
	Message, Remedy string

	cause error
}

// Error says what is wrong and what to do about it.
func (e *Error) Error() string { return e.Message + "; " + e.Remedy }

// Unwrap returns the failure of the source behind a KeyUnavailable.
func (e *Error) Unwrap() error { return e.cause }

// Temporary says whether the same call may succeed later with nothing changed in the cluster's objects.
func (e *Error) Temporary() bool { return e.Reason == v1alpha1.ReasonKeyUnavailable }

// Unavailable is the error of a source that cannot be asked. The message names the source; cause must hold no secret.
func Unavailable(message string, cause error) *Error {
	return &Error{
		Reason:  v1alpha1.ReasonKeyUnavailable,
		Message: fmt.Sprintf("%s: %v", message, cause),
		Remedy:  "it is tried again; if it persists, ask your platform team to look at the modelrights operator",
		cause:   cause,
	}
}

func noKey(licenseName string) *Error {
	return &Error{
		Reason:  v1alpha1.ReasonNoKey,
		Message: fmt.Sprintf("licence %s names no key for the images that the pod uses", licenseName),
		Remedy:  fmt.Sprintf("ask whoever manages ModelLicense %s to add the key to spec.keys", licenseName),
	}
}
