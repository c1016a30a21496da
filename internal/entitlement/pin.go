package entitlement

import (
	"slices"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// defaultTag is what a reference without tag and digest means.
const defaultTag = "latest"

// licensedImage is the image of the licence that covers.
func (c coverage) licensedImage() *v1alpha1.LicensedImage { return &c.license.Spec.Images[c.image] }

// pins says whether the licence asks for the image by digest.
func (c coverage) pins() bool {
	return len(c.licensedImage().Digests) > 0 || c.license.Spec.PinDigests != nil && *c.license.Spec.PinDigests
}

// resolved is the digest that the licence's status knows for a reference without one, if it is licensed; or empty. A
// mirror holds the same image, so that the repository's own entry counts for it.
func (c coverage) resolved(ref images.Reference) string {
	repository, tag := ref.Repository, ref.Tag
	if patterns := c.license.patterns[c.image]; patterns[0] == nil || !patterns[0].Matches(repository) {
		repository = patterns[0].String()
	}
	if tag == "" {
		tag = defaultTag
	}
	licensed := c.licensedImage().Digests
	for i := range c.license.Status.Images {
		known := &c.license.Status.Images[i]
		if known.Repository == repository && known.Tag == tag && (len(licensed) == 0 || slices.Contains(licensed, known.Digest)) {
			return known.Digest
		}
	}
	return ""
}

// Pin returns the reference with the digest that the operator has found for its repository and tag, and whether a
// licence asks for one and it is known. Where several licences do, the first by name counts. A reference that has a
// digest is left as it is, whatever its tag: ok is false.
func (s *Snapshot) Pin(image string) (pinned string, ok bool) {
	all := s.pins(image)
	if len(all) == 0 {
		return "", false
	}
	return all[0], true
}

// pins lists what the image can be pinned to, each once, in order of the licences.
func (s *Snapshot) pins(image string) []string {
	ref, found, _ := s.lookup(&Request{Image: image}, nil)
	if ref.Digest != "" {
		return nil
	}
	var all []string
	for _, c := range found {
		if !c.pins() {
			continue
		}
		if digest := c.resolved(ref); digest != "" {
			all = addNew(all, image+"@"+digest)
		}
	}
	return all
}

// PinnedUse is a place in a pod whose image is to be completed with a digest.
type PinnedUse struct {
	images.Use
	// Pinned is the reference with its digest.
	Pinned string
}

// PinPod lists the images that a new pod is to name by digest, in the order of the pod's fields: those that no licence
// entitles as they stand, and whose digest is known. Containers, init containers and image volumes are pinned; ephemeral
// containers are not, since nothing completes what is added to a pod that exists.
func PinPod(pod Pod, s *Snapshot, now time.Time) []PinnedUse {
	var pinned []PinnedUse
	for _, u := range images.FromPod(pod.Spec) {
		if u.Confidence != images.Declared || u.Kind == images.UseEphemeralContainer {
			continue
		}
		candidates := s.pins(u.Image)
		if len(candidates) == 0 || decideUse(pod, u, "", s, now).Entitled() {
			continue
		}
		best := slices.IndexFunc(candidates, func(candidate string) bool {
			as := u
			as.Image = candidate
			return decideUse(pod, as, "", s, now).Entitled()
		})
		pinned = append(pinned, PinnedUse{Use: u, Pinned: candidates[max(0, best)]})
	}
	return pinned
}
