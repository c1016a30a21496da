// Package entitlement decides who may use which model. It is pure: it works on an immutable snapshot of licences and
// grants and on the time it is given, and does no I/O. Webhooks, controllers and the key service all ask it.
package entitlement

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Snapshot is the licences, grants and governed repositories of one moment, indexed by repository and by namespace. It
// is immutable; Apply returns a new one that shares what did not change. The zero Snapshot governs nothing.
type Snapshot struct {
	licenses map[string]*license
	covered  images.Index[coverage]
	grants   map[string]namespaceGrants
	governed images.Index[string]
}

// namespaceGrants are the grants of one namespace by licence, each list ordered by name.
type namespaceGrants map[string][]*grant

// license is a ModelLicense with its selector parsed.
type license struct {
	*v1alpha1.ModelLicense
	patterns   [][]images.Pattern // of spec.images: the repository, then its mirrors; nil where one cannot be parsed
	namespaces labels.Selector    // nil where namespaces are listed by name
	invalid    error              // the selector cannot be parsed
}

// coverage is one of a licence's images.
type coverage struct {
	license *license
	image   int // index in spec.images
}

// grant is a ModelGrant with its selector parsed.
type grant struct {
	*v1alpha1.ModelGrant
	pods    labels.Selector
	invalid error
}

// New returns a snapshot that governs the repositories, patterns as in a licence, and holds no licence and no grant.
// The error names the pattern that cannot be parsed.
func New(governed []string) (*Snapshot, error) {
	var patterns []images.Pattern
	var errs []error
	for _, repository := range governed {
		p, err := images.ParsePattern(repository)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		patterns = append(patterns, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Snapshot{governed: images.NewIndex(func(add func(images.Pattern, string)) {
		for i, p := range patterns {
			add(p, governed[i])
		}
	})}, nil
}

// Changes are licences and grants that were written or removed since a snapshot. Objects must not be modified
// afterwards.
type Changes struct {
	// Licenses maps a licence's name to its new state, nil where it is gone.
	Licenses map[string]*v1alpha1.ModelLicense
	// Grants maps a grant's namespace and name to its new state, nil where it is gone.
	Grants map[GrantKey]*v1alpha1.ModelGrant
}

// GrantKey names a grant.
type GrantKey struct{ Namespace, Name string }

// Len is the number of changes.
func (c Changes) Len() int { return len(c.Licenses) + len(c.Grants) }

// rebuildAt is the number of licence changes from which indexing everything anew costs less than step by step.
const rebuildAt = 32

// Apply returns the snapshot with the changes made. The receiver stays as it is.
func (s *Snapshot) Apply(c Changes) *Snapshot {
	next := *s
	if len(c.Licenses) > 0 {
		next.applyLicenses(c.Licenses)
	}
	if len(c.Grants) > 0 {
		next.applyGrants(c.Grants)
	}
	return &next
}

func (s *Snapshot) applyLicenses(changed map[string]*v1alpha1.ModelLicense) {
	before := s.licenses
	s.licenses = make(map[string]*license, len(before)+len(changed))
	maps.Copy(s.licenses, before)
	for name, l := range changed {
		if l == nil {
			delete(s.licenses, name)
		} else {
			s.licenses[name] = compileLicense(l)
		}
	}
	if len(changed) >= rebuildAt {
		s.covered = images.NewIndex(func(add func(images.Pattern, coverage)) {
			for _, l := range s.licenses {
				l.eachImage(add)
			}
		})
		return
	}
	for name := range changed {
		if old, ok := before[name]; ok {
			old.eachImage(func(p images.Pattern, c coverage) { s.covered = s.covered.Without(p, c) })
		}
		if l, ok := s.licenses[name]; ok {
			l.eachImage(func(p images.Pattern, c coverage) { s.covered = s.covered.With(p, c) })
		}
	}
}

func (l *license) eachImage(f func(images.Pattern, coverage)) {
	for i, patterns := range l.patterns {
		for _, p := range patterns {
			if p != nil {
				f(p, coverage{license: l, image: i})
			}
		}
	}
}

func compileLicense(l *v1alpha1.ModelLicense) *license {
	c := &license{ModelLicense: l, patterns: make([][]images.Pattern, len(l.Spec.Images))}
	for i, image := range l.Spec.Images {
		// What cannot be parsed covers nothing; the CRD's rules refuse it before it gets here.
		repository, _ := images.ParsePattern(image.Repository)
		c.patterns[i] = append(make([]images.Pattern, 0, 1+len(image.Mirrors)), repository)
		for _, mirror := range image.Mirrors {
			p, _ := images.ParsePattern(mirror)
			c.patterns[i] = append(c.patterns[i], p)
		}
	}
	if l.Spec.AllowedNamespaces.Selector != nil {
		c.namespaces, c.invalid = metav1.LabelSelectorAsSelector(l.Spec.AllowedNamespaces.Selector)
	}
	return c
}

func (s *Snapshot) applyGrants(changed map[GrantKey]*v1alpha1.ModelGrant) {
	before := s.grants
	s.grants = make(map[string]namespaceGrants, len(before)+1)
	maps.Copy(s.grants, before)
	byNamespace := map[string]map[string]*v1alpha1.ModelGrant{}
	for key, g := range changed {
		if byNamespace[key.Namespace] == nil {
			byNamespace[key.Namespace] = map[string]*v1alpha1.ModelGrant{}
		}
		byNamespace[key.Namespace][key.Name] = g
	}
	for namespace, grants := range byNamespace {
		if next := before[namespace].with(grants); len(next) > 0 {
			s.grants[namespace] = next
		} else {
			delete(s.grants, namespace)
		}
	}
}

func (n namespaceGrants) with(changed map[string]*v1alpha1.ModelGrant) namespaceGrants {
	next := make(namespaceGrants, len(n)+1)
	for licenseName, grants := range n {
		kept := slices.DeleteFunc(slices.Clone(grants), func(g *grant) bool { _, ok := changed[g.Name]; return ok })
		if len(kept) > 0 {
			next[licenseName] = kept
		}
	}
	for _, g := range changed {
		if g != nil {
			next[g.Spec.LicenseName] = append(next[g.Spec.LicenseName], compileGrant(g))
		}
	}
	for _, grants := range next {
		slices.SortFunc(grants, func(a, b *grant) int { return cmp.Compare(a.Name, b.Name) })
	}
	return next
}

func compileGrant(g *v1alpha1.ModelGrant) *grant {
	c := &grant{ModelGrant: g, pods: labels.Everything()}
	if g.Spec.PodSelector != nil {
		c.pods, c.invalid = metav1.LabelSelectorAsSelector(g.Spec.PodSelector)
	}
	return c
}

// GovernsAnything says whether any repository is governed or licensed at all.
func (s *Snapshot) GovernsAnything() bool { return !s.covered.Empty() || !s.governed.Empty() }

// License returns the licence of that name, or nil.
func (s *Snapshot) License(name string) *v1alpha1.ModelLicense {
	if l, ok := s.licenses[name]; ok {
		return l.ModelLicense
	}
	return nil
}

// GrantsIn lists the grants of a namespace, ordered by licence and name.
func (s *Snapshot) GrantsIn(namespace string) []*v1alpha1.ModelGrant {
	var all []*v1alpha1.ModelGrant
	for _, licenseName := range slices.Sorted(maps.Keys(s.grants[namespace])) {
		for _, g := range s.grants[namespace][licenseName] {
			all = append(all, g.ModelGrant)
		}
	}
	return all
}
