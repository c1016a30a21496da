package images

import (
	"fmt"
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

// ParsePattern reads HOST/PATH and normalises the host as Parse does. The error names what is wrong.
func ParsePattern(repository string) (Pattern, error) {
	components := strings.Split(repository, "/")
	if len(components) < 2 {
		return nil, fmt.Errorf("repository %q has no registry host: write HOST/PATH", repository)
	}
	components[0] = normalHost(components[0])
	if strings.Contains(components[0], anyOne) {
		return nil, fmt.Errorf("repository %q has a wildcard in its host: the host is literal", repository)
	}
	many := 0
	for _, c := range components {
		if c == anyMany {
			many++
		}
		if c == "" {
			return nil, fmt.Errorf("repository %q has an empty path component", repository)
		}
		if strings.Contains(c, anyOne) && c != anyOne && c != anyMany {
			return nil, fmt.Errorf("repository %q has a wildcard within a path component: a component is literal, * or **", repository)
		}
	}
	if many > maxAnyMany {
		return nil, fmt.Errorf("repository %q has more than %d components **", repository, maxAnyMany)
	}
	if components[0] == "docker.io" && len(components) == 2 && !strings.Contains(components[1], anyOne) {
		components = []string{components[0], "library", components[1]}
	}
	return components, nil
}

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
