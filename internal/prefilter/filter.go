// Package prefilter tells pods that may name something governed from those that cannot, in the API server: it makes the
// CEL expression of the webhooks' match conditions, so that pods which name nothing governed never wait for the operator.
// It is pure.
//
// A filter is a superset of what entitlement.Decide governs, never less: whatever it lets pass is NotGoverned. And it is
// total: it has an answer for any pod that an API server reads, within the budget that API servers have for expressions.
//
// It does not ask for the scheduling gate v1alpha1.SeatGate. A pod whose gate matters names an image that a licence covers,
// and so matches when it is created, and in every update that changes its spec, such as one that removes the gate. A gate
// on another pod waits for nothing of ours, and whoever may update the pod may remove it.
package prefilter

import (
	"iter"
	"regexp"

	"modelrights.dev/modelrights/internal/images"
)

// Filter says which pods are sent to the webhooks. The zero Filter governs nothing: it matches pods with a volume of our
// CSI driver alone. It is immutable.
type Filter struct {
	set *prefixes      // nil: nothing is governed
	rx  *regexp.Regexp // of governed images; nil: nothing is governed
}

// New returns the filter for patterns: the repositories and mirrors of all licences, and the governed repositories. Of
// each it keeps the literal components of the path, up to the first wildcard, without the host, whose spellings are many;
// and the host alone where nothing else is left. Where these are more than 64, or too long for the budget, directories
// with many of them are taken whole instead; and in the end whole hosts, and everything. The same patterns make the same
// filter, in whatever order they come.
func New(patterns iter.Seq[images.Pattern]) Filter {
	set := &prefixes{root: newNode(), hosts: map[string]bool{}}
	empty := true
	for p := range patterns {
		if len(p) > 0 {
			set.add(p)
			empty = false
		}
	}
	if empty {
		return Filter{}
	}
	set.absorb()
	set.collapse()
	return Filter{set: set, rx: regexp.MustCompile(set.expression())}
}

// Governs says whether anything is governed at all.
func (f Filter) Governs() bool { return f.set != nil }

// Covers says whether every pod that names an image of the pattern matches.
func (f Filter) Covers(p images.Pattern) bool {
	return f.set != nil && len(p) > 0 && f.set.covers(p)
}

// Alternatives is the number of path prefixes and of hosts in the filter, at most 64. One that governs everything has
// none, as has one that governs nothing.
func (f Filter) Alternatives() int {
	if f.set == nil || f.set.everything {
		return 0
	}
	return f.set.alternatives()
}

// Coarse says whether directories or hosts are taken whole that the patterns did not name whole: then more pods are
// sent to the webhooks than name something governed.
func (f Filter) Coarse() bool { return f.set != nil && f.set.coarse }
