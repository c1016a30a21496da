package controllers

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/images"
)

// runningImage is an image that a node reports of a pod: a container's, or an image volume's.
type runningImage struct {
	kind images.UseKind
	// name is the container's or the volume's, reference the image as it stands there in the spec.
	name, reference string
	// digest is what the node runs, sha256:HEX: of the index, the manifest or the configuration, as the runtime has it.
	digest string
	// pulled is the repository with that digest, by which the image can be asked for; empty where the node reports the
	// digest alone.
	pulled string
}

// runningImages lists the images that a node reports of a pod. Image volumes are reported from Kubernetes 1.35 on, where
// the feature gate ImageVolumeWithDigest is on.
func runningImages(pod *corev1.Pod) []runningImage {
	var all []runningImage
	add := func(kind images.UseKind, name, reference, id string) {
		digest, pulled := parseImageID(id)
		i := runningImage{kind: kind, name: name, reference: reference, digest: digest, pulled: pulled}
		if digest != "" && !slices.Contains(all, i) {
			all = append(all, i)
		}
	}
	volumes := func(statuses []corev1.ContainerStatus) {
		for _, s := range statuses {
			for _, m := range s.VolumeMounts {
				if m.VolumeStatus == nil || m.VolumeStatus.Image == nil {
					continue
				}
				for _, v := range pod.Spec.Volumes {
					if v.Name == m.Name && v.Image != nil {
						add(images.UseImageVolume, v.Name, v.Image.Reference, m.VolumeStatus.Image.ImageRef)
					}
				}
			}
		}
	}
	for _, s := range pod.Status.InitContainerStatuses {
		add(images.UseInitContainer, s.Name, imageOf(pod.Spec.InitContainers, s.Name), s.ImageID)
	}
	for _, s := range pod.Status.ContainerStatuses {
		add(images.UseContainer, s.Name, imageOf(pod.Spec.Containers, s.Name), s.ImageID)
	}
	for _, s := range pod.Status.EphemeralContainerStatuses {
		i := slices.IndexFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == s.Name })
		if i >= 0 {
			add(images.UseEphemeralContainer, s.Name, pod.Spec.EphemeralContainers[i].Image, s.ImageID)
		}
	}
	volumes(pod.Status.InitContainerStatuses)
	volumes(pod.Status.ContainerStatuses)
	volumes(pod.Status.EphemeralContainerStatuses)
	return all
}

func imageOf(containers []corev1.Container, name string) string {
	for i := range containers {
		if containers[i].Name == name {
			return containers[i].Image
		}
	}
	return ""
}

// parseImageID reads an imageID as runtimes write it: a repository with a digest, or the digest alone, with or without its
// algorithm, and with a scheme before it from runtimes of old (docker-pullable://).
func parseImageID(id string) (digest, pulled string) {
	if i := strings.Index(id, "://"); i >= 0 {
		id = id[i+len("://"):]
	}
	if i := strings.LastIndexByte(id, '@'); i >= 0 {
		digest, pulled = id[i+1:], id
	} else if digest = id; len(id) == sha256Hex {
		digest = sha256Prefix + id
	}
	if hex, ok := strings.CutPrefix(digest, sha256Prefix); !ok || len(hex) != sha256Hex || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", ""
	}
	return digest, pulled
}

const (
	sha256Prefix = "sha256:"
	sha256Hex    = 64
)

// sameRunningImages says whether a node reports the same images of two states of a pod.
func sameRunningImages(a, b *corev1.Pod) bool {
	return slices.Equal(runningImages(a), runningImages(b))
}
