package images

import (
	"fmt"
	"slices"
	"strings"
)

const (
	anyOne  = "*"
	anyMany = "**"

	// maxAnyMany bounds the components ** of a pattern, since matching takes the path's length to their power.
	maxAnyMany = 2
)

// Pattern is a repository as a licence names it, split into components: the host, literal and normalised, and the
// path, in which * stands for one component and ** for any number, none included.
type Pattern []string

// ParsePattern reads HOST/PATH and normalises the host as Parse does. The error names what is wrong: what no reference
// could match is refused, rather than left to govern nothing.
func ParsePattern(repository string) (Pattern, error) {
	components := strings.Split(repository, "/")
	if len(components) < 2 {
		return nil, fmt.Errorf("repository %q has no registry host: write HOST/PATH", repository)
	}
	if strings.Contains(components[0], anyOne) {
		return nil, fmt.Errorf("repository %q has a wildcard in its host: the host is literal", repository)
	}
	many := 0
	sample := slices.Clone(components)
	for i, c := range components {
		switch {
		case c == "":
			return nil, fmt.Errorf("repository %q has an empty path component", repository)
		case c == anyMany:
			many++
			sample[i] = "x"
		case c == anyOne:
			sample[i] = "x"
		case strings.Contains(c, anyOne):
			return nil, fmt.Errorf("repository %q has a wildcard within a path component: a component is literal, * or **", repository)
		}
	}
	if many > maxAnyMany {
		return nil, fmt.Errorf("repository %q has more than %d components **", repository, maxAnyMany)
	}
	// Twice any number is any number, and would be found in many ways.
	components = slices.CompactFunc(components, func(a, b string) bool { return a == anyMany && b == anyMany })
	components[0] = normalHost(components[0])
	if err := checkSample(repository, strings.Join(sample, "/"), components[0]); err != nil {
		return nil, err
	}
	if components[0] == dockerHub && len(components) == 2 && components[1] != anyMany {
		components = []string{components[0], "library", components[1]}
	}
	return components, nil
}

// checkSample: a reference that the pattern is to match can be written, and is of the pattern's host.
func checkSample(repository, sample, host string) error {
	ref, err := Parse(sample)
	switch {
	case err != nil:
		return fmt.Errorf("repository %q matches no image: %w", repository, err)
	case ref.Tag != "" || ref.Digest != "":
		return fmt.Errorf("repository %q holds a tag or a digest: write HOST/PATH alone", repository)
	case !strings.HasPrefix(ref.Repository, host+"/"):
		return fmt.Errorf("repository %q has no registry host (example.com, localhost or host:port): write HOST/PATH", repository)
	}
	return nil
}

// String is the pattern in normal form; without wildcards, it is the Repository of the references that it covers.
func (p Pattern) String() string { return strings.Join(p, "/") }

// Matches says whether the pattern covers a normalised repository (Reference.Repository).
func (p Pattern) Matches(repository string) bool {
	if len(p) == 0 {
		return false
	}
	host, path, _ := strings.Cut(repository, "/")
	return host == p[0] && matchPath(p[1:], path)
}

func matchPath(pattern []string, path string) bool {
	if len(pattern) == 0 {
		return path == ""
	}
	if pattern[0] == anyMany {
		for {
			if matchPath(pattern[1:], path) {
				return true
			}
			if path == "" {
				return false
			}
			_, path, _ = strings.Cut(path, "/")
		}
	}
	if path == "" {
		return false
	}
	component, rest, _ := strings.Cut(path, "/")
	return (pattern[0] == anyOne || pattern[0] == component) && matchPath(pattern[1:], rest)
}
