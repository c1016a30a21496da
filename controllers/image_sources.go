package controllers

import (
	"slices"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// imageSource is a licensed image that can be asked for: its repository is literal.
type imageSource struct {
	// repository is in normal form; what is resolved is known under it.
	repository string
	// from are the repositories that are asked, one after the other until one answers: the repository itself, then its
	// literal mirrors.
	from []string
	// digests are those that the licence lists; only they are the model then.
	digests []string
}

// isModel says whether the licence takes a digest of the repository for the model, and whether it names it.
func (s *imageSource) isModel(digest string) (model, vouched bool) {
	vouched = slices.Contains(s.digests, digest)
	return vouched || len(s.digests) == 0, vouched
}

// imageSources lists what can be asked for of a licence. Tags of a pattern cannot: registries have no way to list the
// repositories that it covers.
func imageSources(spec *v1alpha1.ModelLicenseSpec) []imageSource {
	var sources []imageSource
	for i := range spec.Images {
		image := &spec.Images[i]
		repository, ok := literalRepository(image.Repository)
		if !ok {
			continue
		}
		source := imageSource{repository: repository, from: []string{repository}, digests: image.Digests}
		for _, mirror := range image.Mirrors {
			if mirror, ok := literalRepository(mirror); ok && !slices.Contains(source.from, mirror) {
				source.from = append(source.from, mirror)
			}
		}
		sources = append(sources, source)
	}
	return sources
}

func literalRepository(repository string) (normal string, ok bool) {
	pattern, err := images.ParsePattern(repository)
	if err != nil {
		return "", false
	}
	for _, component := range pattern {
		if strings.Contains(component, "*") {
			return "", false
		}
	}
	return strings.Join(pattern, "/"), true
}

// registryHosts lists the hosts that a licence names, in normal form, those of patterns included.
func registryHosts(spec *v1alpha1.ModelLicenseSpec) []string {
	var hosts []string
	for i := range spec.Images {
		for _, repository := range append([]string{spec.Images[i].Repository}, spec.Images[i].Mirrors...) {
			if pattern, err := images.ParsePattern(repository); err == nil {
				hosts = append(hosts, pattern[0])
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
