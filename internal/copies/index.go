package copies

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Index knows the images of all licences. Changing one licence's costs time proportional to its own layers, so that it
// can follow 10,000 of them. It is safe for concurrent use, and empty when it is zero.
type Index struct {
	mu       sync.RWMutex
	licenses map[string][]*image
	names    map[string][]name
	chains   map[chain]*prefix
	changed  []func(license string)
}

// image is an Image of a licence.
type image struct {
	license, reference string
	vouched            bool
	digests            []string // under which names finds it
	manifests          []*manifest
}

// manifest is a Manifest of a licence.
type manifest struct {
	image   *image
	data    bool
	content int     // the number of layers with content
	upTo    int     // the number of layers up to the last with content
	begins  []begin // by digests and by diffIDs
}

// name is what a digest stands for: a manifest, or an image as a whole where it is nil.
type name struct {
	image    *image
	manifest *manifest
}

// prefix is a sequence of layers with which licensed images begin.
type prefix struct {
	// whole are the licensed manifests that consist of it.
	whole []*manifest
	// base is the number of licensed manifests that have content beyond it.
	base int
}

// Set makes images those of a licence, in place of what it had. None means that the licence is gone or knows none.
func (x *Index) Set(license string, images []Image) {
	for _, f := range x.set(license, images) {
		f(license)
	}
}

// set returns whom to tell of it.
func (x *Index) set(license string, images []Image) []func(string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.licenses == nil {
		x.licenses, x.names, x.chains = map[string][]*image{}, map[string][]name{}, map[chain]*prefix{}
	}
	if len(images) == 0 && len(x.licenses[license]) == 0 {
		return nil
	}
	for _, i := range x.licenses[license] {
		x.remove(i)
	}
	delete(x.licenses, license)
	for i := range images {
		x.licenses[license] = append(x.licenses[license], x.add(license, &images[i]))
	}
	return slices.Clone(x.changed)
}

// Subscribe calls f with the name of each licence whose images are set from now on, once Match takes account of it.
// Others wait while it runs.
func (x *Index) Subscribe(f func(license string)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changed = append(x.changed, f)
}

// Owners lists the licences that have an image of that digest, ordered by name.
func (x *Index) Owners(digest string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var owners []string
	for _, n := range x.names[digest] {
		owners = append(owners, n.image.license)
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// Match says of which licences' images an image is a copy: one match a licence, ordered by the licence's name,
// SameDigest where both hold. The digest is what the node reports of a running image (imageID without its repository):
// of an index, of a manifest, or of a configuration; it may be empty. The manifests are those of its platforms as the
// registry has them; without them only the digest is compared. Whether the copy is licensed is not said here: who is
// entitled to any of the licences, or to the repository by which he calls the image, runs no unlicensed copy.
func (x *Index) Match(digest string, manifests ...Manifest) []Match {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := map[string]Match{}
	x.matchName(found, digest)
	for n := range manifests {
		x.matchName(found, manifests[n].Digest)
		x.matchName(found, manifests[n].Config)
		x.matchLayers(found, &manifests[n])
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Match) int { return cmp.Compare(a.License, b.License) })
}

func (x *Index) matchName(found map[string]Match, digest string) {
	for _, n := range x.names[digest] {
		candidates := []*manifest{n.manifest}
		if n.manifest == nil {
			candidates = n.image.manifests
		}
		if n.image.vouched || slices.ContainsFunc(candidates, x.isModel) {
			keepBetter(found, n.image, SameDigest)
		}
	}
}

func (x *Index) matchLayers(found map[string]Match, m *Manifest) {
	for _, begins := range beginsOf(m) {
		for _, c := range begins {
			p := x.chains[c]
			if p == nil {
				break
			}
			for _, licensed := range p.whole {
				if isModelWithin(licensed, p) {
					keepBetter(found, licensed.image, BuiltFrom)
				}
			}
		}
	}
}

func keepBetter(found map[string]Match, i *image, how How) {
	best, ok := found[i.license]
	if !ok || best.How == BuiltFrom && how == SameDigest || best.How == how && i.reference < best.Image {
		found[i.license] = Match{License: i.license, Image: i.reference, How: how}
	}
}

// isModel says that a licensed manifest is the model itself, beyond the doubts that Image.Vouched names.
func (x *Index) isModel(m *manifest) bool {
	return m.content > 0 && (m.data || !slices.ContainsFunc(m.begins, func(b begin) bool { return x.chains[b[len(b)-1]].base > 0 }))
}

// isModelWithin says that what begins with a licensed manifest, which consists of the prefix, holds the model.
func isModelWithin(m *manifest, p *prefix) bool {
	return m.content > 0 && (m.image.vouched || p.base == 0 && (m.data || m.content > 1))
}

func (x *Index) add(license string, of *Image) *image {
	i := &image{license: license, reference: of.Reference, vouched: of.Vouched}
	whole := append([]string{of.Digest}, of.Platforms...)
	for n := range of.Manifests {
		m := &of.Manifests[n]
		content, upTo := m.content()
		compiled := &manifest{image: i, data: m.Data, content: content, upTo: upTo, begins: beginsOf(m)}
		i.manifests = append(i.manifests, compiled)
		x.addName(m.Digest, name{image: i, manifest: compiled})
		x.addName(m.Config, name{image: i, manifest: compiled})
		whole = slices.DeleteFunc(whole, func(digest string) bool { return digest == m.Digest })
		x.addLayers(compiled)
	}
	for _, digest := range whole {
		x.addName(digest, name{image: i})
	}
	return i
}

func (x *Index) addName(digest string, n name) {
	if digest != "" {
		x.names[digest] = append(x.names[digest], n)
		n.image.digests = append(n.image.digests, digest)
	}
}

func (x *Index) addLayers(m *manifest) {
	for _, begins := range m.begins {
		for n, c := range begins {
			p := x.chains[c]
			if p == nil {
				p = &prefix{}
				x.chains[c] = p
			}
			if n+1 < m.upTo {
				p.base++
			}
			if n+1 == len(begins) {
				p.whole = append(p.whole, m)
			}
		}
	}
}

func (x *Index) remove(i *image) {
	for _, digest := range i.digests {
		kept := slices.DeleteFunc(x.names[digest], func(n name) bool { return n.image == i })
		if x.names[digest] = kept; len(kept) == 0 {
			delete(x.names, digest)
		}
	}
	for _, m := range i.manifests {
		for _, begins := range m.begins {
			for n, c := range begins {
				p := x.chains[c]
				if n+1 < m.upTo {
					p.base--
				}
				p.whole = slices.DeleteFunc(p.whole, func(other *manifest) bool { return other == m })
				if p.base == 0 && len(p.whole) == 0 {
					delete(x.chains, c)
				}
			}
		}
	}
}
