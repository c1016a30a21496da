package workloads

import (
	"errors"
	"strconv"
	"strings"

	"modelrights.dev/modelrights/internal/images"
)

// normalize is the normal form of a reference; empty where it does not parse, and id where it is an image's ID.
func normalize(image string) (normalized string, id bool) {
	if len(image) > MaxImage {
		return "", false
	}
	ref, err := images.Parse(image)
	if err != nil {
		return "", errors.Is(err, images.ErrImageID)
	}
	return ref.String(), false
}

// isImageKey says whether fields of that name usually hold an image: image, imageName, imageRef, and whatever ends in
// Image, such as baseImage.
func isImageKey(key string) bool {
	switch key {
	case "image", "imageName", "imageRef", "imageReference", "imageURI", "imageUri", "imageURL", "imageUrl", "image_uri", "image_name":
		return true
	}
	return strings.HasSuffix(key, "Image") || strings.HasSuffix(key, "_image")
}

// imageField reports the value of a field that holds an image, and says whether it may be one: addresses of other things
// are none.
func (w *walker) imageField(s string, confidence images.Confidence, t *Template) bool {
	if w.uris(s, confidence, t) {
		return true
	}
	s = strings.TrimPrefix(s, "docker://")
	if strings.Contains(s, "://") && !images.HasPlaceholder(s) {
		return false
	}
	w.add("", "", s, confidence, t)
	return true
}

// partNames are the fields in which a map holds the parts of a reference; empty where it has no such field.
type partNames struct {
	Registry   string `json:"registry,omitempty"`
	Repository string `json:"repository,omitempty"`
	Name       string `json:"name,omitempty"`
	Image      string `json:"image,omitempty"`
	Tag        string `json:"tag,omitempty"`
	Version    string `json:"version,omitempty"`
	Digest     string `json:"digest,omitempty"`
}

var (
	// standardParts are those of a map in a field that holds an image.
	standardParts = partNames{
		Registry: "registry", Repository: "repository", Name: "name", Image: "image", Tag: "tag", Version: "version", Digest: "digest",
	}
	// repositoryParts are those of a map that may also describe other things, as the modelSpec of vLLM's production-stack.
	repositoryParts = partNames{Registry: "registry", Repository: "repository", Tag: "tag", Digest: "digest"}
)

// looksLikeParts says whether a map holds a repository with a tag or a digest.
func looksLikeParts(m map[string]any) bool {
	repository, ok := m["repository"].(string)
	if !ok || repository == "" || strings.Contains(repository, "://") {
		return false
	}
	return scalar(m, "tag") != "" || scalar(m, "digest") != ""
}

// parts reports the reference that a map holds in parts, and says whether it does.
func (w *walker) parts(m map[string]any, names partNames, confidence images.Confidence, t *Template) bool {
	image := join(m, names)
	if image == "" {
		return false
	}
	w.add("", "", image, confidence, t)
	return true
}

// join puts a reference together: registry, repository and the image's name are joined by slashes. A name that repeats
// what the repository ends with is left out, and so is a tag that the name has already.
func join(m map[string]any, names partNames) string {
	last := scalar(m, names.Image)
	if last == "" {
		last = scalar(m, names.Name)
	}
	var path []string
	for _, part := range []string{scalar(m, names.Registry), scalar(m, names.Repository), last} {
		if part = strings.Trim(withoutScheme(part), "/"); part != "" {
			path = append(path, part)
		}
	}
	if n := len(path); n >= 2 && (path[n-1] == path[n-2] || strings.HasSuffix(path[n-2], "/"+path[n-1])) {
		path = path[:n-1]
	}
	if len(path) == 0 || len(path) == 1 && path[0] == strings.Trim(withoutScheme(scalar(m, names.Registry)), "/") {
		return ""
	}
	image := strings.Join(path, "/")
	if strings.Contains(image, "://") {
		return ""
	}
	tag := scalar(m, names.Tag)
	if tag == "" {
		tag = scalar(m, names.Version)
	}
	digest := scalar(m, names.Digest)
	if strings.HasPrefix(tag, "sha256:") {
		tag, digest = "", tag
	}
	if base := image[strings.LastIndexByte(image, '/')+1:]; tag != "" && !strings.Contains(base, ":") && !strings.Contains(base, "@") {
		image += ":" + tag
	}
	if digest != "" && !strings.Contains(image, "@") {
		image += "@" + digest
	}
	return image
}

// withoutScheme removes one of our schemes from the beginning of a part.
func withoutScheme(part string) string {
	if i := strings.Index(part, "://"); i >= 0 && images.NamesScheme(part[:i+len("://")]) {
		return part[i+len("://"):]
	}
	return part
}

// scalar is the text of a field, also of a number: a tag such as 1.3 is one in YAML.
func scalar(m map[string]any, key string) string {
	switch v := m[key].(type) {
	case string:
		return clip(strings.TrimSpace(v), MaxImage)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return ""
	}
}
