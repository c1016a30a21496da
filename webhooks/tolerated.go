package webhooks

import (
	"fmt"
	"slices"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// toleratedWarnings tell whoever asked what the pod would be denied for if its licences enforced; nothing of licences with
// enforcement Audit.
func toleratedWarnings(v verdict) []string {
	refused := slices.DeleteFunc(refusalsOf(v), func(r refusal) bool { return r.silent() })
	return warningsOf(refused, func(r *refusal) string {
		return fmt.Sprintf("modelrights: pod not entitled, and admitted all the same [%s]: ", r.Reason)
	})
}

// silent says whether nobody is to be told of a refusal: it is tolerated, and no licence asks for warnings.
func (r *refusal) silent() bool { return r.tolerated && r.mode != v1alpha1.EnforcementWarn }
