package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// created is the time in every image and of every file in it: a fixed one, so that digests depend on content alone.
var created = time.Unix(0, 0).UTC()

// imageSpec is everything that decides an image's digest, and the reference it is known by.
type imageSpec struct {
	reference           name.Tag
	files               []fileEntry
	entrypoint, command []string
	env                 []string
	user, workdir       string
	os, architecture    string
	labels, annotations map[string]string
}

// fileEntry puts a local file or directory at an absolute path of the image.
type fileEntry struct{ local, target string }

// parseFile parses LOCAL:/path/in/image. The target is what follows the last ":/", so that local names may hold colons.
func parseFile(text string) (fileEntry, error) {
	i := strings.LastIndex(text, ":/")
	if i <= 0 {
		return fileEntry{}, fmt.Errorf("--file %q: want LOCAL:/path/in/image, with an absolute path in the image", text)
	}
	entry := fileEntry{local: text[:i], target: path.Clean(text[i+1:])}
	if entry.target == "/" && !strings.HasSuffix(text, ":/") {
		return fileEntry{}, fmt.Errorf("--file %q: %q is no path in the image", text, text[i+1:])
	}
	return entry, nil
}

// parseReference parses a tag. A digest makes no sense for an image that is yet to be built.
func parseReference(text string) (name.Tag, error) {
	if text == "" {
		return name.Tag{}, fmt.Errorf("--image is missing: give a reference, such as 10.213.1.1:17500/modelrights-operator:dev")
	}
	reference, err := name.NewTag(text)
	if err != nil {
		return name.Tag{}, fmt.Errorf("--image %q: want REGISTRY/REPOSITORY:TAG: %w", text, err)
	}
	return reference, nil
}

// build makes the image in memory: one layer for each file entry, in the order given.
func build(spec imageSpec) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, entry := range spec.files {
		layer, err := layerOf(entry)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "images --file " + entry.target},
		})
		if err != nil {
			return nil, fmt.Errorf("append %s to the image: %w", entry.local, err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = spec.os, spec.architecture
	config.Created = v1.Time{Time: created}
	config.Config = v1.Config{
		Entrypoint: spec.entrypoint,
		Cmd:        spec.command,
		Env:        spec.env,
		User:       spec.user,
		WorkingDir: spec.workdir,
		Labels:     spec.labels,
	}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, fmt.Errorf("set the configuration of the image: %w", err)
	}
	if len(spec.annotations) == 0 {
		return image, nil
	}
	annotated, ok := mutate.Annotations(image, spec.annotations).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotate the image: the library returned no image")
	}
	return annotated, nil
}
