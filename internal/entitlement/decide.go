package entitlement

import (
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Request asks whether a pod may use an image.
type Request struct {
	// Image is the reference as it stands in the pod.
	Image string
	// Namespace is the pod's namespace.
	Namespace string
	// NamespaceLabels are the namespace's labels.
	NamespaceLabels map[string]string
	// ServiceAccount is the account the pod runs as; empty means default.
	ServiceAccount string
	// PodLabels are the pod's labels.
	PodLabels map[string]string
	// License, where it is set, admits no other licence: the key service asks for the licence that a volume names.
	License string
}

// Decision is the answer to a Request.
type Decision struct {
	// Request is what was asked.
	Request Request
	// Reason is Entitled, NotGoverned, or why the use is refused.
	Reason v1alpha1.Reason
	// License is the licence that entitles, or the one that came closest; nil where none covers the image.
	License *v1alpha1.ModelLicense
	// Grant is the grant that entitles, or the one that came closest; nil where none was reached.
	Grant *v1alpha1.ModelGrant
	// KeyName is which of the licence's keys opens the image; empty where the licence has none.
	KeyName string
}

// Entitled says whether a licence and a grant cover the use.
func (d Decision) Entitled() bool { return d.Reason == v1alpha1.ReasonEntitled }

// Governed says whether the image is any business of ours.
func (d Decision) Governed() bool { return d.Reason != v1alpha1.ReasonNotGoverned }

// Refused says whether the use must be prevented.
func (d Decision) Refused() bool { return d.Governed() && !d.Entitled() }

// Decide says whether a pod may use an image at a moment. Of the licences that cover the image it takes the first by
// name that entitles, with the first grant by name that does. A refusal speaks of the licence and grant that got
// furthest along the chain of checks, so that what it says is the last thing missing. Its cost depends on the licences
// that cover the image and the grants of them in the namespace, not on how many there are in the cluster.
func Decide(r Request, s *Snapshot, now time.Time) Decision {
	refused := func(reason v1alpha1.Reason) Decision { return Decision{Request: r, Reason: reason} }
	if !s.GovernsAnything() {
		return refused(v1alpha1.ReasonNotGoverned)
	}
	ref, err := images.Parse(r.Image)
	if errors.Is(err, images.ErrImageID) {
		return refused(v1alpha1.ReasonImageID)
	}
	if err != nil {
		return refused(v1alpha1.ReasonUnparsableImage)
	}

	var room [4]coverage
	found := s.covered.Lookup(ref.Repository, room[:0])
	if r.License != "" {
		found = slices.DeleteFunc(found, func(c coverage) bool { return c.license.Name != r.License })
		if len(found) == 0 {
			return refused(v1alpha1.ReasonModelNotReferenced)
		}
	}
	if len(found) == 0 {
		var governed [1]string
		if len(s.governed.Lookup(ref.Repository, governed[:0])) > 0 {
			return refused(v1alpha1.ReasonUnlicensed)
		}
		return refused(v1alpha1.ReasonNotGoverned)
	}
	slices.SortFunc(found, byLicense)
	found = slices.Compact(found)

	var best Decision
	furthest := -1
	for _, c := range found {
		d, stage := decideLicense(&r, s, c, now)
		if d.Reason == v1alpha1.ReasonEntitled {
			return d
		}
		if stage > furthest {
			best, furthest = d, stage
		}
	}
	return best
}

// byLicense orders by the licence's name, then by the image's place in it.
func byLicense(a, b coverage) int {
	switch {
	case a.license.Name < b.license.Name:
		return -1
	case a.license.Name > b.license.Name:
		return 1
	}
	return a.image - b.image
}

// decideLicense runs the chains for one licence and says how far they got.
func decideLicense(r *Request, s *Snapshot, c coverage, now time.Time) (Decision, int) {
	d := Decision{Request: *r, License: c.license.ModelLicense}
	for i, check := range licenseChecks {
		if d.Reason = check(r, c.license, now); d.Reason != "" {
			return d, i
		}
	}
	grants := s.grants[r.Namespace][c.license.Name]
	d.Reason = v1alpha1.ReasonNoGrant
	furthest := len(licenseChecks)
	for _, g := range grants {
		reason, stage := decideGrant(r, c.license, g)
		if reason == "" {
			d.Reason, d.Grant, d.KeyName = v1alpha1.ReasonEntitled, g.ModelGrant, keyName(c)
			return d, len(licenseChecks) + len(grantChecks) + 1
		}
		if stage += len(licenseChecks) + 1; stage > furthest {
			d.Reason, d.Grant, furthest = reason, g.ModelGrant, stage
		}
	}
	return d, furthest
}

func decideGrant(r *Request, l *license, g *grant) (v1alpha1.Reason, int) {
	for i, check := range grantChecks {
		if reason := check(r, l, g); reason != "" {
			return reason, i
		}
	}
	return "", len(grantChecks)
}

// keyName is the key that opens an image: the one it names, or the licence's only one.
func keyName(c coverage) string {
	if name := c.license.Spec.Images[c.image].KeyName; name != "" {
		return name
	}
	if len(c.license.Spec.Keys) == 1 {
		return c.license.Spec.Keys[0].Name
	}
	return ""
}

// licenseChecks are what must hold between a request and a licence, in the order in which they are asked.
var licenseChecks = []func(*Request, *license, time.Time) v1alpha1.Reason{
	checkNamespace,
	checkNotBefore,
	checkNotAfter,
}

// grantChecks are what must hold between a request, a licence and a grant, in the order in which they are asked.
var grantChecks = []func(*Request, *license, *grant) v1alpha1.Reason{
	checkSubject,
	checkPodSelector,
	checkAction,
	checkPurpose,
}

// checkNamespace: the licence names the pod's namespace, literally or by its labels.
func checkNamespace(r *Request, l *license, _ time.Time) v1alpha1.Reason {
	switch {
	case l.invalid != nil:
		return v1alpha1.ReasonInvalidSelector
	case l.namespaces != nil && l.namespaces.Matches(labels.Set(r.NamespaceLabels)):
		return ""
	case slices.Contains(l.Spec.AllowedNamespaces.Names, r.Namespace):
		return ""
	}
	return v1alpha1.ReasonNamespaceNotAllowed
}

// checkNotBefore: the licence's time has come.
func checkNotBefore(_ *Request, l *license, now time.Time) v1alpha1.Reason {
	if t := l.Spec.Terms.NotBefore; t != nil && now.Before(t.Time) {
		return v1alpha1.ReasonNotYetValid
	}
	return ""
}

// checkNotAfter: the licence's time is not over.
func checkNotAfter(_ *Request, l *license, now time.Time) v1alpha1.Reason {
	if t := l.Spec.Terms.NotAfter; t != nil && !now.Before(t.Time) {
		return v1alpha1.ReasonExpired
	}
	return ""
}

// checkSubject: the grant names the account that the pod runs as.
func checkSubject(r *Request, _ *license, g *grant) v1alpha1.Reason {
	account := r.ServiceAccount
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
func checkPodSelector(r *Request, _ *license, g *grant) v1alpha1.Reason {
	if g.invalid != nil {
		return v1alpha1.ReasonInvalidSelector
	}
	if !g.pods.Matches(labels.Set(r.PodLabels)) {
		return v1alpha1.ReasonPodNotSelected
	}
	return ""
}

// checkAction: the licence allows what the grant is for, technically.
func checkAction(_ *Request, l *license, g *grant) v1alpha1.Reason {
	if !slices.Contains(l.Spec.Terms.Actions, g.Spec.Action) {
		return v1alpha1.ReasonActionNotLicensed
	}
	return ""
}

// checkPurpose: the licence allows what the grant is for, commercially.
func checkPurpose(_ *Request, l *license, g *grant) v1alpha1.Reason {
	if !slices.Contains(l.Spec.Terms.Purposes, g.Spec.Purpose) {
		return v1alpha1.ReasonPurposeNotLicensed
	}
	return ""
}
