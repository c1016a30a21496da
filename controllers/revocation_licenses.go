package controllers

import (
	"maps"
	"sync"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// lastLicenses remembers licences as they last were, since what happens to the pods of one that is deleted stands in the
// licence. Every replica remembers them, so that a new leader knows of licences that were deleted before it led. Of one that
// was deleted while no operator ran its ledger says what is needed.
type lastLicenses struct {
	mu       sync.Mutex
	licenses map[string]*v1alpha1.ModelLicense
	// news is how many states were seen since any were forgotten.
	news int
}

// saw takes notice of a licence's state, which may be its last.
func (l *lastLicenses) saw(license *v1alpha1.ModelLicense) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.licenses == nil {
		l.licenses = map[string]*v1alpha1.ModelLicense{}
	}
	l.licenses[license.Name] = license
	l.news++
}

// grown says whether so many states were seen that it is worth looking which can be forgotten.
func (l *lastLicenses) grown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.news > 1000+len(l.licenses)/2
}

// forget forgets the licences of which gone says so.
func (l *lastLicenses) forget(gone func(license string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = 0
	maps.DeleteFunc(l.licenses, func(name string, _ *v1alpha1.ModelLicense) bool { return gone(name) })
}

// last is the last known state of a licence, nil where it was never seen.
func (l *lastLicenses) last(license string) *v1alpha1.ModelLicense {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.licenses[license]
}
