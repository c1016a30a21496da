// Package copies recognises copies of licensed images: the same image under another name, and images that were built
// from it. It does no I/O: what the registry says of licensed and of running images is given to it.
//
// An image is built from another when it begins with all of its layers, in their order: what `FROM` in a Dockerfile
// does. Files that were put into layers anew (copied out of the image, squashed, packed again) are not recognised, nor
// is a licensed layer that was put on another base.
//
// Nobody is accused for a base image that he shares with a licensor. An image built on the same public base as a
// licensed one lacks the layers above it. What is left is a licensed repository that holds a plain base image beside
// the model, or nothing but layers that anybody may have; doubt (see Image.Vouched) is decided for the accused.
package copies

// How is in which way an image is a copy.
type How string

// The ways in which an image is a copy.
const (
	// SameDigest means that the image, its manifest or its configuration, is a licensed one's.
	SameDigest How = "SameDigest"
	// BuiltFrom means that the image begins with all layers of a licensed one.
	BuiltFrom How = "BuiltFrom"
)

// Match says that an image is a copy of a licensed one.
type Match struct {
	// License is the name of the ModelLicense.
	License string
	// Image is the reference of the licensed image, for messages.
	Image string
	// How is in which way it is a copy.
	How How
}

// Image is an image of a licence as the registry has it.
type Image struct {
	// Reference names it to people: repository, tag and digest.
	Reference string
	// Digest is that of the index, or of the manifest where there is no index: sha256:HEX.
	Digest string
	// Platforms are the digests of the manifests that are known to be of it, whether or not they could be read.
	Platforms []string
	// Manifests are those of its platforms that could be read.
	Manifests []Manifest
	// Vouched says that a person named this very image by digest in the licence, so that it is the model beyond doubt.
	// Of other images in a licensed repository it is doubted that they are the model, and they accuse nobody, where
	//   - they hold no layer of at least MinContent bytes, or could not be read;
	//   - another licensed image was built from them and adds content, as from a base image (what holds files and runs
	//     nothing is still recognised under another name, but not as the base of another image);
	//   - they hold one such layer and can be run, as base images of operating systems: then they are recognised
	//     under another name, but not as the base of another image.
	Vouched bool
}

// Manifest is the image of one platform.
type Manifest struct {
	// Digest is the manifest's, Config that of its configuration; empty where the configuration could not be read.
	Digest, Config string
	// Layers are its layers, the lowest first.
	Layers []Layer
	// Data says that the configuration names nothing to run: the image holds files.
	Data bool
}

// Layer is one layer of an image.
type Layer struct {
	// Digest is that of the layer as the registry keeps it, compressed or not.
	Digest string
	// DiffID is the digest of the layer unpacked, which stays the same when it is compressed anew; empty where the
	// configuration could not be read.
	DiffID string
	// Size is the number of bytes that the registry keeps.
	Size int64
}

// MinContent is the size, in bytes, from which a layer counts as content. Smaller ones (an empty layer, a directory, a
// file of users, an entrypoint script), made reproducibly, are the same in images of people who know nothing of each
// other.
const MinContent = 64 << 10

// maxLayers bounds the layers of an image that are looked at: container runtimes take 127 at most.
const maxLayers = 256

// content is the number of layers with content, and the number of layers up to the last of them.
func (m *Manifest) content() (layers, upTo int) {
	for i, l := range m.Layers {
		if l.Size >= MinContent {
			layers, upTo = layers+1, i+1
		}
	}
	return layers, upTo
}
