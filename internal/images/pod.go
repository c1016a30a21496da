package images

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// UseKind is the kind of place in a pod that names an image.
type UseKind string

// The places in a pod that name images.
const (
	UseContainer          UseKind = "container"
	UseInitContainer      UseKind = "init container"
	UseEphemeralContainer UseKind = "ephemeral container"
	UseImageVolume        UseKind = "image volume"
)

// Use is one place in a pod that names an image.
type Use struct {
	// Kind is the kind of place.
	Kind UseKind
	// Name is the name of the container or of the volume.
	Name string
	// Field is the path of the field in the pod, for messages.
	Field string
	// Image is the reference as it stands there.
	Image string
	// Containers are the names of the containers that run the image or mount the volume. A volume may have none;
	// ephemeral containers that mount it are left out, since they come and go in a pod that was decided on.
	Containers []string
}

// FromPod lists every place in a pod that names an image, in the order of the pod's fields. Empty references are left
// out: the API server refuses them where they are required.
func FromPod(spec *corev1.PodSpec) []Use {
	uses := make([]Use, 0, len(spec.Containers)+len(spec.InitContainers))
	add := func(kind UseKind, name, field, image string, containers ...string) {
		if image != "" {
			uses = append(uses, Use{Kind: kind, Name: name, Field: field, Image: image, Containers: containers})
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
