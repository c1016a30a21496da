package images

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// UseKind is the kind of place in a pod that names an image.
type UseKind string

// The places in a pod that name images. In a command, an argument or a variable of a container an image can only be
// guessed at: see Confidence.
const (
	UseContainer           UseKind = "container"
	UseInitContainer       UseKind = "init container"
	UseEphemeralContainer  UseKind = "ephemeral container"
	UseImageVolume         UseKind = "image volume"
	UseCommand             UseKind = "command"
	UseArgument            UseKind = "argument"
	UseEnvironmentVariable UseKind = "environment variable"
)

// Confidence says how sure it is that a place names an image.
type Confidence string

// The degrees of confidence. A declared image may be refused, and may bring a key. An inferred one may be refused, and
// never brings a key: a guess may refuse, it never opens. An unresolved one is reported, and nothing is decided on it.
const (
	// Declared is an image in a field that the kubelet pulls images from.
	Declared Confidence = "declared"
	// Inferred is an image that a text names by a URI with one of Schemes.
	Inferred Confidence = "inferred"
	// Unresolved is a text where an image is to be, but with placeholders in it, or that cannot be parsed.
	Unresolved Confidence = "unresolved"
)

// Use is one place in a pod that names an image.
type Use struct {
	// Kind is the kind of place.
	Kind UseKind
	// Confidence is how sure it is. Whoever leaves it empty gets a use that may be refused and brings no key.
	Confidence Confidence
	// Name is the name of the container or of the volume; for a command, argument or variable that of its container.
	Name string
	// Field is the path of the field in the pod, for messages.
	Field string
	// Image is the reference as it stands there; where it was inferred, with variables expanded.
	Image string
	// Containers are the names of the containers that run the image or mount the volume. A volume may have none;
	// ephemeral containers that mount it are left out, since they come and go in a pod that was decided on. An image
	// that is not declared has none.
	Containers []string
	// Excess says that the pod's texts name more images than are looked at, from this place on. There is no Image then.
	Excess bool
}

// FromPod lists every place in a pod that names an image: declared ones in the order of the pod's fields, then those in
// commands, arguments and variables. Empty references are left out: the API server refuses them where they are required.
// Of texts, 512 images and 8 MiB with variables expanded are looked at; of a pod with more, the last use has Excess.
func FromPod(spec *corev1.PodSpec) []Use {
	uses := make([]Use, 0, len(spec.Containers)+len(spec.InitContainers))
	add := func(kind UseKind, name, field, image string, containers ...string) {
		if image != "" {
			uses = append(uses, Use{Kind: kind, Confidence: Declared, Name: name, Field: field, Image: image, Containers: containers})
		}
	}
	for i, v := range spec.Volumes {
		if v.Image != nil {
			add(UseImageVolume, v.Name, fmt.Sprintf("spec.volumes[%d].image.reference", i), v.Image.Reference, mounting(spec, v.Name)...)
		}
	}
	for i, c := range spec.InitContainers {
		add(UseInitContainer, c.Name, fmt.Sprintf("spec.initContainers[%d].image", i), c.Image, c.Name)
	}
	for i, c := range spec.Containers {
		add(UseContainer, c.Name, fmt.Sprintf("spec.containers[%d].image", i), c.Image, c.Name)
	}
	for i, c := range spec.EphemeralContainers {
		add(UseEphemeralContainer, c.Name, fmt.Sprintf("spec.ephemeralContainers[%d].image", i), c.Image, c.Name)
	}
	if NamesSchemes(spec) {
		uses = append(uses, fromTexts(spec)...)
	}
	return uses
}

// Mounting lists the names of the containers that mount a volume, ephemeral ones included.
func Mounting(spec *corev1.PodSpec, volume string) []string {
	names := mounting(spec, volume)
	for i := range spec.EphemeralContainers {
		if mounts(spec.EphemeralContainers[i].VolumeMounts, volume) {
			names = append(names, spec.EphemeralContainers[i].Name)
		}
	}
	return names
}

// mounting lists the names of the containers that mount a volume, ephemeral ones left out.
func mounting(spec *corev1.PodSpec, volume string) []string {
	var names []string
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if mounts(containers[i].VolumeMounts, volume) {
				names = append(names, containers[i].Name)
			}
		}
	}
	return names
}

func mounts(all []corev1.VolumeMount, volume string) bool {
	return slices.ContainsFunc(all, func(m corev1.VolumeMount) bool { return m.Name == volume })
}
