package entitlement

import (
	"fmt"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// GrantVerdict says whether a grant counts, whatever pod asks.
type GrantVerdict struct {
	// Reason is Ready, or why the grant does not count.
	Reason v1alpha1.Reason
	// Message says it in a sentence, with what to do about it.
	Message string
	// Until is when the verdict changes by itself; zero where it does not.
	Until time.Time
}

// DecideGrant says whether a grant counts: its licence exists (nil where not), names the namespace, is not suspended and
// in its time, as is the grant, and allows the action and the purpose. It asks the same checks as Decide for a new pod:
// in a grace period, where only pods that run go on, the reason is InGrace.
func DecideGrant(g *v1alpha1.ModelGrant, l *v1alpha1.ModelLicense, namespaceLabels map[string]string, now time.Time) GrantVerdict {
	if l == nil {
		return GrantVerdict{
			Reason:  v1alpha1.ReasonLicenseMissing,
			Message: fmt.Sprintf("ModelLicense %s does not exist: correct spec.licenseName, or apply the licence (kubectl get mlic lists what there is)", g.Spec.LicenseName),
		}
	}
	verdict := GrantVerdict{Until: NextChange(l, g, now)}
	license, compiled := compileLicense(l), compileGrant(g)
	q := &question{
		Request: Request{Namespace: g.Namespace, NamespaceLabels: namespaceLabels}, coverage: coverage{license: license}, now: now,
	}
	for _, check := range licenseChecks[:imageChecksFrom] {
		if verdict.Reason = check.ask(q); verdict.Reason != "" {
			verdict.Message = grantMessage(g, l, verdict.Reason, now)
			return verdict
		}
	}
	verdict.Reason = v1alpha1.ReasonReady
	if compiled.invalid != nil {
		verdict.Reason = v1alpha1.ReasonInvalidSelector
	} else {
		for _, check := range termChecks {
			if reason := check.ask(q, compiled); reason != "" {
				verdict.Reason = reason
				break
			}
		}
	}
	verdict.Message = grantMessage(g, l, verdict.Reason, now)
	return verdict
}

func grantMessage(g *v1alpha1.ModelGrant, l *v1alpha1.ModelLicense, reason v1alpha1.Reason, now time.Time) string {
	switch reason {
	case v1alpha1.ReasonReady:
		return fmt.Sprintf("the named service accounts may use model %s of %s", modelName(l), l.Spec.Licensor)
	case v1alpha1.ReasonNamespaceNotAllowed:
		return fmt.Sprintf("ModelLicense %s does not name namespace %s: ask whoever manages it to add it to spec.allowedNamespaces (%s)", l.Name, g.Namespace, allowedNamespaces(l))
	case v1alpha1.ReasonSuspended:
		return fmt.Sprintf("ModelLicense %s is suspended: ask whoever manages it why, and to remove spec.suspended", l.Name)
	case v1alpha1.ReasonNotYetValid:
		return fmt.Sprintf("ModelLicense %s holds only from %s", l.Name, timeOf(l.Spec.Terms.NotBefore))
	case v1alpha1.ReasonExpired:
		return fmt.Sprintf("ModelLicense %s ended at %s: ask %s to renew it", l.Name, moment(licensePeriod(l).graceEnd()), l.Spec.Licensor)
	case v1alpha1.ReasonInGrace:
		if licensePeriod(l).at(now) == inGrace {
			return fmt.Sprintf("ModelLicense %s ended at %s, and until %s pods that run go on: ask %s to renew it", l.Name, timeOf(l.Spec.Terms.NotAfter), moment(licensePeriod(l).graceEnd()), l.Spec.Licensor)
		}
		return fmt.Sprintf("the grant ended at %s, and until %s pods that run go on: set a later spec.notAfter", timeOf(g.Spec.NotAfter), moment(grantPeriod(g).graceEnd()))
	case v1alpha1.ReasonGrantNotYetValid:
		return fmt.Sprintf("the grant counts only from %s: set an earlier spec.notBefore if that is too late", timeOf(g.Spec.NotBefore))
	case v1alpha1.ReasonGrantExpired:
		return fmt.Sprintf("the grant ended at %s: set a later spec.notAfter", moment(grantPeriod(g).graceEnd()))
	case v1alpha1.ReasonActionNotLicensed:
		return fmt.Sprintf("ModelLicense %s allows %s: set spec.action to one of these, or ask %s to license %s", l.Name, join(l.Spec.Terms.Actions), l.Spec.Licensor, g.Spec.Action)
	case v1alpha1.ReasonPurposeNotLicensed:
		return fmt.Sprintf("ModelLicense %s allows %s: set spec.purpose to one of these, or ask %s to license %s", l.Name, join(l.Spec.Terms.Purposes), l.Spec.Licensor, g.Spec.Purpose)
	default:
		return fmt.Sprintf("a label selector of the grant or of ModelLicense %s cannot be parsed: correct spec.podSelector or spec.allowedNamespaces.selector", l.Name)
	}
}

// DecideLicense says whether anybody can be newly entitled by a licence now: Ready, InvalidSelector, Suspended,
// NotYetValid, Expired, or InGrace where only pods that run go on; and when that changes by itself (zero where it does
// not).
func DecideLicense(l *v1alpha1.ModelLicense, now time.Time) (v1alpha1.Reason, time.Time) {
	compiled := compileLicense(l)
	q := &question{coverage: coverage{license: compiled}, now: now}
	reason := v1alpha1.ReasonReady
	if compiled.invalid != nil {
		reason = v1alpha1.ReasonInvalidSelector
	} else {
		for _, ask := range []func(*question) v1alpha1.Reason{checkSuspended, checkNotBefore, checkNotAfter} {
			if r := ask(q); r != "" {
				reason = r
				break
			}
		}
	}
	return reason, NextChange(l, nil, now)
}
