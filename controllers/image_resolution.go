package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/registry"
)

// maxResolvedImages bounds status.images, as its schema does.
const maxResolvedImages = 128

// ImageRegistry reads registries: *registry.Client.
type ImageRegistry interface {
	// Tags lists the tags of a repository.
	Tags(ctx context.Context, access *registry.Access, repository string) (registry.Tags, error)
	// Resolve says what a tag stands for.
	Resolve(ctx context.Context, access *registry.Access, repository, tag string) (registry.Image, error)
	// Read says what a digest stands for.
	Read(ctx context.Context, access *registry.Access, repository, digest string) (registry.Image, error)
}

// resolvedKey names a tag of a repository or, where the tag is empty, a digest that a licence lists.
type resolvedKey struct{ repository, tag, digest string }

func keyOf(image *v1alpha1.ResolvedImage) resolvedKey {
	key := resolvedKey{repository: image.Repository, tag: image.Tag}
	if key.tag == "" {
		key.digest = image.Digest
	}
	return key
}

// resolved is an entry of status.images and what it consists of.
type resolved struct {
	entry     v1alpha1.ResolvedImage
	manifests []copies.Manifest
}

// resolution is what came of asking registries for the images of one licence.
type resolution struct {
	images map[resolvedKey]resolved
	// failed are why things are not known, or known from before alone.
	failed []error
	// cut is the number of tags and digests that there was no room for; more says that there may be others.
	cut  int
	more bool
}

// resolver asks registries for the images of one licence.
type resolver struct {
	registry ImageRegistry
	access   *registry.Access
	// before is what was known, which stays known where a registry gives no answer.
	before map[resolvedKey]resolved
	resolution
}

// resolve asks for listed digests first, then for the tags of each repository in turn until there is no more room.
func (r *resolver) resolve(ctx context.Context, sources []imageSource) resolution {
	r.images = map[resolvedKey]resolved{}
	for i := range sources {
		for _, digest := range sources[i].digests {
			r.add(ctx, &sources[i], sources[i].from, resolvedKey{repository: sources[i].repository, digest: digest})
		}
	}
	type listed struct {
		source *imageSource
		from   []string
		tags   []string
	}
	var lists []listed
	for i := range sources {
		source := &sources[i]
		if from, tags, ok := r.list(ctx, source); ok {
			lists = append(lists, listed{source: source, from: from, tags: tags})
		}
	}
	for turn, more := 0, true; more; turn++ {
		more = false
		for _, l := range lists {
			if turn < len(l.tags) {
				more = true
				r.add(ctx, l.source, l.from, resolvedKey{repository: l.source.repository, tag: l.tags[turn]})
			}
		}
	}
	return r.resolution
}

// list lists the tags of a source, and says where they were found. What was known of it stays where nobody answers.
func (r *resolver) list(ctx context.Context, source *imageSource) (from, tags []string, ok bool) {
	var first error
	for _, repository := range source.from {
		found, err := r.registry.Tags(ctx, r.access, repository)
		if err == nil {
			r.more = r.more || found.Cut
			return []string{repository}, found.Names, true
		}
		if first == nil {
			first = err
		}
	}
	if errors.Is(first, registry.ErrNotFound) && len(source.digests) > 0 {
		// A repository without tags may be unknown to its registry; its digests were asked for by themselves.
		return nil, nil, false
	}
	r.failed = append(r.failed, first)
	if !errors.Is(first, registry.ErrNotFound) {
		for key, known := range r.before {
			if key.repository == source.repository && key.tag != "" {
				r.keep(key, known)
			}
		}
	}
	return nil, nil, false
}

// add asks what a tag or a digest stands for.
func (r *resolver) add(ctx context.Context, source *imageSource, from []string, key resolvedKey) {
	if _, known := r.images[key]; !known && len(r.images) >= maxResolvedImages {
		r.cut++
		return
	}
	var first error
	for _, repository := range from {
		var found registry.Image
		var err error
		if key.tag != "" {
			found, err = r.registry.Resolve(ctx, r.access, repository, key.tag)
		} else {
			found, err = r.registry.Read(ctx, r.access, repository, key.digest)
		}
		if err == nil {
			r.images[key] = resolved{
				entry: v1alpha1.ResolvedImage{
					Repository: source.repository, Tag: key.tag, Digest: found.Digest, Platforms: found.Platforms,
				},
				manifests: found.Manifests,
			}
			return
		}
		if first == nil {
			first = err
		}
	}
	if errors.Is(first, registry.ErrNotFound) && key.tag != "" {
		return // the tag went away since it was listed
	}
	r.failed = append(r.failed, first)
	// What a digest stands for never changes. Pods that name a platform's run by it, and shall not lose their keys because a
	// registry hides it for a while: many say so where credentials are wrong.
	if known, ok := r.before[key]; ok && (key.digest != "" || !errors.Is(first, registry.ErrNotFound)) {
		r.keep(key, known)
	}
}

func (r *resolver) keep(key resolvedKey, known resolved) {
	if len(r.images) < maxResolvedImages {
		r.images[key] = known
	}
}

// entries are those of status.images, in an order that does not change by itself.
func (r *resolution) entries() []v1alpha1.ResolvedImage {
	var entries []v1alpha1.ResolvedImage
	for _, known := range r.images {
		entries = append(entries, known.entry)
	}
	slices.SortFunc(entries, func(a, b v1alpha1.ResolvedImage) int {
		if order := strings.Compare(a.Repository, b.Repository); order != 0 {
			return order
		}
		if order := strings.Compare(a.Tag, b.Tag); order != 0 {
			return order
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return entries
}

// licensed are the images by which copies are recognised: what is the model by the licence. Digests that the licence
// lists count even where no registry could be asked for them.
func (r *resolution) licensed(spec *v1alpha1.ModelLicenseSpec, sources []imageSource) []copies.Image {
	var all []copies.Image
	listed := map[string]bool{}
	for _, entry := range r.entries() {
		i := slices.IndexFunc(sources, func(s imageSource) bool { return s.repository == entry.Repository })
		if i < 0 {
			continue
		}
		model, vouched := sources[i].isModel(entry.Digest)
		if !model {
			continue
		}
		listed[entry.Digest] = true
		all = append(all, copies.Image{
			Reference: referenceOf(&entry), Digest: entry.Digest, Platforms: entry.Platforms,
			Manifests: r.images[keyOf(&entry)].manifests, Vouched: vouched,
		})
	}
	for i := range spec.Images {
		for _, digest := range spec.Images[i].Digests {
			if !listed[digest] {
				listed[digest] = true
				all = append(all, copies.Image{Reference: spec.Images[i].Repository + "@" + digest, Digest: digest, Vouched: true})
			}
		}
	}
	return all
}

func referenceOf(entry *v1alpha1.ResolvedImage) string {
	if entry.Tag == "" {
		return entry.Repository + "@" + entry.Digest
	}
	return entry.Repository + ":" + entry.Tag + "@" + entry.Digest
}

// moved lists the tags that stand for another image than before.
func moved(before, after []v1alpha1.ResolvedImage) []string {
	was := map[resolvedKey]string{}
	for i := range before {
		was[keyOf(&before[i])] = before[i].Digest
	}
	var moves []string
	for i := range after {
		entry := &after[i]
		if old := was[keyOf(entry)]; old != "" && old != entry.Digest {
			moves = append(moves, fmt.Sprintf("%s:%s stands for %s now, for %s before", entry.Repository, entry.Tag, entry.Digest, old))
		}
	}
	return moves
}
