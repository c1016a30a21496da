package entitlement

import (
	"iter"
	"maps"
)

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
