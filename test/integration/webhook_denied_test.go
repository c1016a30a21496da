package integration

import (
	"errors"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// beDenied matches an error by which a webhook of ours denied a pod for a reason, with a message that holds the parts.
func beDenied(reason v1alpha1.Reason, parts ...string) OmegaMatcher {
	matchers := []OmegaMatcher{
		WithTransform(apierrors.IsForbidden, BeTrue()),
		MatchError(ContainSubstring("modelrights: pod denied [" + string(reason) + "]: ")),
		WithTransform(func(err error) []string {
			var status apierrors.APIStatus
			if !errors.As(err, &status) || status.Status().Details == nil {
				return nil
			}
			var causes []string
			for _, c := range status.Status().Details.Causes {
				causes = append(causes, string(c.Type))
			}
			return causes
		}, ContainElement(string(reason))),
	}
	for _, part := range parts {
		matchers = append(matchers, MatchError(ContainSubstring(part)))
	}
	return And(matchers...)
}
