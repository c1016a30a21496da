package controllers

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
)

// licenseFacts is what the status of a licence is computed from.
type licenseFacts struct {
	license *v1alpha1.ModelLicense
	// keyErrors are why keys of the licence are not to be had, in the order of spec.keys, each an *keys.Error.
	keyErrors []error
	// readyGrants is the number of grants of the licence that count.
	readyGrants int32
	// admission is what the webhook configurations have to say; nil: it is not asked.
	admission *admissionFacts
	now       time.Time
}

// admissionFacts say whether pods that use the licence are sent to the operator.
type admissionFacts struct {
	covered bool
	// why they are not.
	why string
	// err means that it cannot be told now.
	err error
}

// licenseStatus computes the status, and when it changes by itself (zero where it does not).
func licenseStatus(f licenseFacts) (v1alpha1.ModelLicenseStatus, time.Time) {
	status := *f.license.Status.DeepCopy()
	generation := f.license.Generation
	status.ObservedGeneration = generation
	status.Grants = &f.readyGrants

	keysReason, keysMessage, retried := keysVerdict(f.license, f.keyErrors)
	keysOK := keysReason == v1alpha1.ReasonKeysAvailable
	setCondition(&status.Conditions, generation, v1alpha1.ConditionKeysAvailable, keysOK, keysReason, keysMessage)

	admitted, pending := setAdmission(&status, f)

	_, ends, graceEnds := entitlement.Validity(f.license, nil)
	end := expiryOf(ends, graceEnds, f.now)
	status.Expires = end.status()
	end.set(&status.Conditions, generation, fmt.Sprintf("ask %s to renew it", f.license.Spec.Licensor))

	reason, until := entitlement.DecideLicense(f.license, f.now)
	switch {
	case reason == v1alpha1.ReasonSuspended:
		setReadiness(&status.Conditions, generation, false, false, reason,
			"suspended: no pod is admitted and no key released, and pods that run lose their keys; set spec.suspended to false to resume it")
	case reason == v1alpha1.ReasonInGrace:
		setReadiness(&status.Conditions, generation, false, false, reason,
			fmt.Sprintf("%s, and no new pod is admitted; ask %s to renew it", end.message, f.license.Spec.Licensor))
	case reason == v1alpha1.ReasonInvalidSelector:
		setReadiness(&status.Conditions, generation, false, false, reason,
			"spec.allowedNamespaces.selector cannot be parsed, so no namespace is allowed; correct its keys and values")
	case reason == v1alpha1.ReasonExpired:
		setReadiness(&status.Conditions, generation, false, false, reason,
			fmt.Sprintf("ended at %s: no pod is admitted and no key released any more; ask %s to renew it", rfc3339(f.license.Spec.Terms.NotAfter.Time), f.license.Spec.Licensor))
	case reason == v1alpha1.ReasonNotYetValid:
		setReadiness(&status.Conditions, generation, false, true, reason,
			fmt.Sprintf("holds from %s", rfc3339(f.license.Spec.Terms.NotBefore.Time)))
	case !keysOK:
		setReadiness(&status.Conditions, generation, false, retried, keysReason, keysMessage)
	case !admitted:
		setReadiness(&status.Conditions, generation, false, true, v1alpha1.ReasonAdmissionPending, pending)
	default:
		setReadiness(&status.Conditions, generation, true, false, v1alpha1.ReasonReady, readyMessage(end))
	}
	if until.IsZero() || !end.changes.IsZero() && end.changes.Before(until) {
		until = end.changes
	}
	return status, until
}

// setAdmission sets AdmissionReady, and returns whether it is True, with its message. Where it cannot be told, what was
// said of the same generation stays: nothing that a licence was told is taken back because a replica is new.
func setAdmission(status *v1alpha1.ModelLicenseStatus, f licenseFacts) (bool, string) {
	generation := f.license.Generation
	switch {
	case f.admission == nil:
		return true, ""
	case f.admission.err != nil:
		if before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAdmissionReady); before != nil && before.ObservedGeneration == generation {
			return before.Status == metav1.ConditionTrue, before.Message
		}
		f.admission = &admissionFacts{why: "it is not known yet whether pods with its images are sent to the operator"}
	}
	reason, message := v1alpha1.ReasonAdmissionPending, f.admission.why
	if f.admission.covered {
		reason, message = v1alpha1.ReasonAdmissionReady, "pods with its images are sent to the operator"
	}
	setCondition(&status.Conditions, generation, v1alpha1.ConditionAdmissionReady, f.admission.covered, reason, message)
	return f.admission.covered, message
}

// keysVerdict sums up whether the keys are to be had, and whether the operator tries again by itself.
func keysVerdict(l *v1alpha1.ModelLicense, problems []error) (v1alpha1.Reason, string, bool) {
	if len(l.Spec.Keys) == 0 {
		return v1alpha1.ReasonNoKey, "spec.keys names no key: pods are admitted, but no key is delivered to them; add the key that opens the model", false
	}
	var failed []*keys.Error
	for _, err := range problems {
		var failure *keys.Error
		if errors.As(err, &failure) {
			failed = append(failed, failure)
		}
	}
	if len(failed) == 0 {
		return v1alpha1.ReasonKeysAvailable, fmt.Sprintf("%d of %d keys found", len(l.Spec.Keys), len(l.Spec.Keys)), false
	}
	messages := make([]string, len(failed))
	for i, failure := range failed {
		messages[i] = failure.Error()
	}
	return failed[0].Reason, strings.Join(messages, ". "), failed[0].Temporary()
}

func readyMessage(end expiry) string {
	switch {
	case end.reason == v1alpha1.ReasonGracePeriod:
		return end.message + "; until then new pods are admitted, too"
	case !end.ends.IsZero():
		return "in force until " + rfc3339(end.ends)
	}
	return "in force, without end"
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
