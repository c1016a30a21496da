package controllers

import (
	"sync"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// lastLicenses remembers licences as they last were, since what happens to the pods of one that is deleted stands in the
// licence. Every replica remembers them, so that a new leader knows of licences that were deleted before it led. Of one that
// was deleted while no operator ran nothing is known.
type lastLicenses struct {
	mu       sync.Mutex
	licenses map[string]*v1alpha1.ModelLicense
}

// saw takes notice of a licence's state, which may be its last.
func (l *lastLicenses) saw(license *v1alpha1.ModelLicense) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.licenses == nil {
		l.licenses = map[string]*v1alpha1.ModelLicense{}
	}
	l.licenses[license.Name] = license
}

// forget is called once a licence is gone and nobody holds a seat of it.
func (l *lastLicenses) forget(license string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.licenses, license)
}

// last is the last known state of a licence, nil where it was never seen.
func (l *lastLicenses) last(license string) *v1alpha1.ModelLicense {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.licenses[license]
}
