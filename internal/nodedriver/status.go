package nodedriver

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// statusOf turns the key service's refusal into what kubelet shows in the pod's FailedMount Event: the reason, what is
// wrong, and what to do about it.
func statusOf(err error) error {
	var refusal *protocol.Error
	if !errors.As(err, &refusal) {
		return status.Error(codes.Internal, "the key service could not be asked")
	}
	return status.Error(codeOf(refusal), refusal.Error())
}

func codeOf(refusal *protocol.Error) codes.Code {
	if refusal.Temporary {
		return codes.Unavailable
	}
	switch refusal.Reason {
	case v1alpha1.ReasonUnauthenticated, v1alpha1.ReasonNotNodeDriver, v1alpha1.ReasonTokenNotBound:
		return codes.Unauthenticated
	case v1alpha1.ReasonNoKey, v1alpha1.ReasonKeySecretMissing, v1alpha1.ReasonKeyEmpty, v1alpha1.ReasonKeyInvalid:
		return codes.FailedPrecondition
	default:
		return codes.PermissionDenied
	}
}
