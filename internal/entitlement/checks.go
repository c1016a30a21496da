package entitlement

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/seats/count"
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
	{"Suspended", checkSuspended},
	{"NotBefore", checkNotBefore},
	{"NotAfter", checkNotAfter},
	{"Digest", checkDigest},
}

const imageChecksFrom = 4

// grantChecks are asked in this order: who the pod is, what the grant is for, and what the pod asks for.
var grantChecks = []grantCheck{
	{"Subject", checkSubject},
	{"PodSelector", checkPodSelector},
	{"GrantNotBefore", checkGrantNotBefore},
	{"GrantNotAfter", checkGrantNotAfter},
	{"Action", checkAction},
	{"Purpose", checkPurpose},
	{"Devices", checkDevices},
	{"NodeSelector", checkNodeSelector},
}

// termChecks are the grant checks whose outcome no pod changes.
var termChecks = grantChecks[2:6]

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

// checkSuspended: nobody has stopped the licence.
func checkSuspended(q *question) v1alpha1.Reason {
	if suspended := q.license.Spec.Suspended; suspended != nil && *suspended {
		return v1alpha1.ReasonSuspended
	}
	return ""
}

// checkNotBefore: the licence's time has come.
func checkNotBefore(q *question) v1alpha1.Reason {
	if licensePeriod(q.license.ModelLicense).at(q.now) == before {
		return v1alpha1.ReasonNotYetValid
	}
	return ""
}

// checkNotAfter: the licence's time is not over, or its grace period lets the pod go on, or begin.
func checkNotAfter(q *question) v1alpha1.Reason {
	switch licensePeriod(q.license.ModelLicense).at(q.now) {
	case over:
		return v1alpha1.ReasonExpired
	case inGrace:
		if !q.Held && q.license.Spec.Terms.GraceAdmits != v1alpha1.GraceAdmitsAll {
			return v1alpha1.ReasonInGrace
		}
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

// checkGrantNotBefore: the grant's own time has come.
func checkGrantNotBefore(q *question, g *grant) v1alpha1.Reason {
	if grantPeriod(g.ModelGrant).at(q.now) == before {
		return v1alpha1.ReasonGrantNotYetValid
	}
	return ""
}

// checkGrantNotAfter: the grant's own time is not over, or its grace period lets the pod go on.
func checkGrantNotAfter(q *question, g *grant) v1alpha1.Reason {
	switch grantPeriod(g.ModelGrant).at(q.now) {
	case over:
		return v1alpha1.ReasonGrantExpired
	case inGrace:
		if !q.Held {
			return v1alpha1.ReasonInGrace
		}
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

// checkDevices: what the licence and the grant limit, they can count in the pod. A pod that has its seats is not asked
// again: it was counted when it got them.
func checkDevices(q *question, g *grant) v1alpha1.Reason {
	if q.Spec == nil || q.Held {
		return ""
	}
	for _, limits := range []corev1.ResourceList{q.license.Spec.Terms.Limits, g.Spec.Limits} {
		if _, found := count.Uncountable(q.Spec, limits); found {
			return v1alpha1.ReasonUncountableDevice
		}
	}
	return ""
}

// checkNodeSelector: the pod does not want other nodes than the licence. Of a pod that has its seats the node itself
// counts: see DecideNode.
func checkNodeSelector(q *question, _ *grant) v1alpha1.Reason {
	if q.Spec == nil || q.Held {
		return ""
	}
	for key, want := range q.license.Spec.Terms.NodeSelector {
		if got, set := q.Spec.NodeSelector[key]; set && got != string(want) {
			return v1alpha1.ReasonNodeSelectorConflict
		}
	}
	return ""
}
