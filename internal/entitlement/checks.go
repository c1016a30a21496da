package entitlement

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// question is a request, as it is put to one of a licence's images.
type question struct {
	Request
	coverage
	ref images.Reference
	now time.Time
}

// licenseCheck is something that must hold between a request and a licence. It answers with the reason why it does not.
type licenseCheck struct {
	name string
	ask  func(*question) v1alpha1.Reason
}

// grantCheck is something that must hold between a request, a licence and a grant.
type grantCheck struct {
	name string
	ask  func(*question, *grant) v1alpha1.Reason
}

// licenseChecks are asked in this order. Those from imageChecksFrom on are about the image, the others about the licence
// whatever the image.
var licenseChecks = []licenseCheck{
	{"Namespace", checkNamespace},
	{"NotBefore", checkNotBefore},
	{"NotAfter", checkNotAfter},
	{"Digest", checkDigest},
}

const imageChecksFrom = 3

// grantChecks are asked in this order.
var grantChecks = []grantCheck{
	{"Subject", checkSubject},
	{"PodSelector", checkPodSelector},
	{"Action", checkAction},
	{"Purpose", checkPurpose},
}

// checkNamespace: the licence names the pod's namespace, literally or by its labels.
func checkNamespace(q *question) v1alpha1.Reason {
	l := q.license
	switch {
	case l.invalid != nil:
		return v1alpha1.ReasonInvalidSelector
	case l.namespaces != nil && l.namespaces.Matches(labels.Set(q.NamespaceLabels)):
		return ""
	case slices.Contains(l.Spec.AllowedNamespaces.Names, q.Namespace):
		return ""
	}
	return v1alpha1.ReasonNamespaceNotAllowed
}

// checkNotBefore: the licence's time has come.
func checkNotBefore(q *question) v1alpha1.Reason {
	if t := q.license.Spec.Terms.NotBefore; t != nil && q.now.Before(t.Time) {
		return v1alpha1.ReasonNotYetValid
	}
	return ""
}

// checkNotAfter: the licence's time is not over.
func checkNotAfter(q *question) v1alpha1.Reason {
	if t := q.license.Spec.Terms.NotAfter; t != nil && !q.now.Before(t.Time) {
		return v1alpha1.ReasonExpired
	}
	return ""
}

// checkDigest: where the licence asks for digests, the image has one; and where it lists them, it is one of these, or
// that of a platform of one of these. The tag beside a digest does not matter: the container runtime goes by the digest.
func checkDigest(q *question) v1alpha1.Reason {
	licensed := q.licensedImage().Digests
	switch {
	case !q.pins():
		return ""
	case q.ref.Digest == "":
		return v1alpha1.ReasonDigestNotPinned
	case len(licensed) == 0 || slices.Contains(licensed, q.ref.Digest):
		return ""
	}
	for i := range q.license.Status.Images {
		resolved := &q.license.Status.Images[i]
		if slices.Contains(resolved.Platforms, q.ref.Digest) && slices.Contains(licensed, resolved.Digest) {
			return ""
		}
	}
	return v1alpha1.ReasonDigestNotLicensed
}

// checkSubject: the grant names the account that the pod runs as.
func checkSubject(q *question, g *grant) v1alpha1.Reason {
	account := q.ServiceAccount
	if account == "" {
		account = "default"
	}
	for _, subject := range g.Spec.Subjects {
		if subject.Name == account && (subject.Kind == v1alpha1.SubjectServiceAccount || subject.Kind == "") {
			return ""
		}
	}
	return v1alpha1.ReasonSubjectNotGranted
}

// checkPodSelector: the grant is for pods with these labels.
func checkPodSelector(q *question, g *grant) v1alpha1.Reason {
	if g.invalid != nil {
		return v1alpha1.ReasonInvalidSelector
	}
	if !g.pods.Matches(labels.Set(q.PodLabels)) {
		return v1alpha1.ReasonPodNotSelected
	}
	return ""
}

// checkAction: the licence allows what the grant is for, technically.
func checkAction(q *question, g *grant) v1alpha1.Reason {
	if !slices.Contains(q.license.Spec.Terms.Actions, g.Spec.Action) {
		return v1alpha1.ReasonActionNotLicensed
	}
	return ""
}

// checkPurpose: the licence allows what the grant is for, commercially.
func checkPurpose(q *question, g *grant) v1alpha1.Reason {
	if !slices.Contains(q.license.Spec.Terms.Purposes, g.Spec.Purpose) {
		return v1alpha1.ReasonPurposeNotLicensed
	}
	return ""
}
