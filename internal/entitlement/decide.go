package entitlement

import (
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

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
	// Held says that the pod has its seats already: grace periods are for it, and what is asked of new pods alone (devices
	// that can be counted, a node selector that agrees) is not asked again.
	Held bool
	// Seats are the licences that the pod holds seats of. Of those that entitle, they go before others: that another one comes
	// to entitle the pod while it runs makes it use no second seat.
	Seats []string
	// Spec is the pod's spec, for what the terms say of devices and nodes. It is only read. Without it, that is not asked.
	Spec *corev1.PodSpec
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
	// Enforcement is how strictly admission deals with the image: the strictest of the licences that cover it. Empty, which
	// is as Enforce, where none does.
	Enforcement v1alpha1.EnforcementMode
	// Tolerated says that admission lets the use pass although it is refused, since every licence that covers the image
	// relaxes. Key release knows no toleration.
	Tolerated bool
	// Pinned is the reference with the digest of its tag, where one is missing (DigestNotPinned) and known; or empty.
	Pinned string
}

// Entitled says whether a licence and a grant cover the use.
func (d Decision) Entitled() bool { return d.Reason == v1alpha1.ReasonEntitled }

// Governed says whether the image is any business of ours.
func (d Decision) Governed() bool { return d.Reason != v1alpha1.ReasonNotGoverned }

// Refused says whether nothing entitles to the use of a governed image. Admission may tolerate it.
func (d Decision) Refused() bool { return d.Governed() && !d.Entitled() }

// Relaxed says whether every licence that covers the image only watches, so that admission refuses nothing.
func (d Decision) Relaxed() bool { return relaxed(d.Enforcement) }

// Decide says whether a pod may use an image at a moment. Of the licences that cover the image it takes the first by
// name that entitles, or one of which the pod holds a seat, with the first grant by name that does. A refusal speaks of the licence and grant that got
// furthest along the chain of checks, so that what it says is the last thing missing. Its cost depends on the licences
// that cover the image and the grants of them in the namespace, not on how many there are in the cluster.
func Decide(r Request, s *Snapshot, now time.Time) Decision {
	var room [4]coverage
	ref, found, reason := s.lookup(&r, room[:0])
	if reason != "" {
		return Decision{Request: r, Reason: reason}
	}
	var best, other Decision
	furthest := -1
	mode := strictest(found)
	q := &question{Request: r, ref: ref, now: now}
	for _, q.coverage = range found {
		d, stage := decideLicense(q, s)
		d.Enforcement = mode
		if d.Reason == v1alpha1.ReasonEntitled {
			if len(r.Seats) == 0 || slices.Contains(r.Seats, d.License.Name) {
				return d
			}
			if !other.Entitled() {
				other = d
			}
			continue
		}
		if stage > furthest {
			best, furthest = d, stage
		}
	}
	if other.Entitled() {
		return other
	}
	if best.Reason == v1alpha1.ReasonDigestNotPinned {
		best.Pinned, _ = s.Pin(r.Image)
	}
	best.Tolerated = relaxed(mode)
	return best
}

// lookup appends to found what covers the image, ordered by licence; where nothing does, the reason says what that means.
func (s *Snapshot) lookup(r *Request, found []coverage) (images.Reference, []coverage, v1alpha1.Reason) {
	if !s.GovernsAnything() {
		return images.Reference{}, nil, v1alpha1.ReasonNotGoverned
	}
	ref, err := images.Parse(r.Image)
	if errors.Is(err, images.ErrImageID) {
		return ref, nil, v1alpha1.ReasonImageID
	}
	if err != nil {
		return ref, nil, v1alpha1.ReasonUnparsableImage
	}
	found = s.covered.Lookup(ref.Repository, found)
	if r.License != "" {
		found = slices.DeleteFunc(found, func(c coverage) bool { return c.license.Name != r.License })
		if len(found) == 0 {
			return ref, nil, v1alpha1.ReasonModelNotReferenced
		}
	}
	if len(found) == 0 {
		var governed [1]string
		if len(s.governed.Lookup(ref.Repository, governed[:0])) > 0 {
			return ref, nil, v1alpha1.ReasonUnlicensed
		}
		return ref, nil, v1alpha1.ReasonNotGoverned
	}
	slices.SortFunc(found, byLicense)
	return ref, slices.Compact(found), ""
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
func decideLicense(q *question, s *Snapshot) (Decision, int) {
	d := Decision{Request: q.Request, License: q.license.ModelLicense}
	for i := range licenseChecks {
		if d.Reason = licenseChecks[i].ask(q); d.Reason != "" {
			return d, i
		}
	}
	grants := s.grants[q.Namespace][q.license.Name]
	d.Reason = v1alpha1.ReasonNoGrant
	furthest := len(licenseChecks)
	for _, g := range grants {
		reason, stage := decideGrant(q, g)
		if reason == "" {
			d.Reason, d.Grant, d.KeyName = v1alpha1.ReasonEntitled, g.ModelGrant, keyName(q.coverage)
			return d, len(licenseChecks) + len(grantChecks) + 1
		}
		if stage += len(licenseChecks) + 1; stage > furthest {
			d.Reason, d.Grant, furthest = reason, g.ModelGrant, stage
		}
	}
	return d, furthest
}

func decideGrant(q *question, g *grant) (v1alpha1.Reason, int) {
	for i := range grantChecks {
		if reason := grantChecks[i].ask(q, g); reason != "" {
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
