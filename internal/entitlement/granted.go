package entitlement

import (
	"iter"
	"maps"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Licenses goes through all licences, in no order.
func (s *Snapshot) Licenses() iter.Seq[*v1alpha1.ModelLicense] {
	return func(yield func(*v1alpha1.ModelLicense) bool) {
		for _, l := range s.licenses {
			if !yield(l.ModelLicense) {
				return
			}
		}
	}
}

// GrantedLicenses goes through the namespaces that hold grants, with the names of the licences that those are for.
func (s *Snapshot) GrantedLicenses() iter.Seq2[string, iter.Seq[string]] {
	return func(yield func(string, iter.Seq[string]) bool) {
		for namespace, byLicense := range s.grants {
			if len(byLicense) > 0 && !yield(namespace, maps.Keys(byLicense)) {
				return
			}
		}
	}
}
