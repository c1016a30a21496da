package entitlement

import (
	"iter"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Patterns yields every pattern by which an image is governed: of licences, their repositories and mirrors, and of
// governed repositories. One may come twice; they come in no order that callers may rely on.
func (s *Snapshot) Patterns() iter.Seq[images.Pattern] {
	return func(yield func(images.Pattern) bool) {
		for p := range s.covered.Patterns() {
			if !yield(p) {
				return
			}
		}
		for p := range s.governed.Patterns() {
			if !yield(p) {
				return
			}
		}
	}
}

// LicensePatterns yields the patterns by which images are governed for one licence: its repositories and mirrors. What
// cannot be parsed governs nothing, and is left out.
func LicensePatterns(l *v1alpha1.ModelLicense) iter.Seq[images.Pattern] {
	return func(yield func(images.Pattern) bool) {
		for i := range l.Spec.Images {
			image := &l.Spec.Images[i]
			for j := -1; j < len(image.Mirrors); j++ {
				repository := image.Repository
				if j >= 0 {
					repository = image.Mirrors[j]
				}
				if p, err := images.ParsePattern(repository); err == nil && !yield(p) {
					return
				}
			}
		}
	}
}
