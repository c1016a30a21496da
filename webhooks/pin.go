package webhooks

import (
	"fmt"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/entitlement"
)

// Pin returns a copy of the pod that names the images by digest; the pod itself where there is nothing to pin.
func Pin(pod *corev1.Pod, pins []entitlement.PinnedUse) *corev1.Pod {
	if len(pins) == 0 {
		return pod
	}
	byField := make(map[string]string, len(pins))
	for _, p := range pins {
		byField[p.Field] = p.Pinned
	}
	pinned := pod.DeepCopy()
	eachImage(&pinned.Spec, func(_, field string, image *string) {
		if to, ok := byField[field]; ok {
			*image = to
		}
	})
	return pinned
}

// eachImage calls f with every image of a pod's containers, init containers and image volumes: where it stands as a JSON
// pointer (RFC 6901) and as a path for messages.
func eachImage(spec *corev1.PodSpec, f func(pointer, field string, image *string)) {
	for i := range spec.Volumes {
		if image := spec.Volumes[i].Image; image != nil {
			f(fmt.Sprintf("/spec/volumes/%d/image/reference", i), fmt.Sprintf("spec.volumes[%d].image.reference", i), &image.Reference)
		}
	}
	containers := func(list string, all []corev1.Container) {
		for i := range all {
			f(fmt.Sprintf("/spec/%s/%d/image", list, i), fmt.Sprintf("spec.%s[%d].image", list, i), &all[i].Image)
		}
	}
	containers("initContainers", spec.InitContainers)
	containers("containers", spec.Containers)
}

// pinPatch is the JSON patch that turns the pod's images into those of the pinned pod.
func pinPatch(pod, pinned *corev1.Pod) []jsonpatch.Operation {
	if pinned == pod {
		return nil
	}
	before := map[string]string{}
	eachImage(&pod.Spec, func(pointer, _ string, image *string) { before[pointer] = *image })
	var patch []jsonpatch.Operation
	eachImage(&pinned.Spec, func(pointer, _ string, image *string) {
		if was, ok := before[pointer]; ok && was != *image {
			patch = append(patch, jsonpatch.NewOperation("replace", pointer, *image))
		}
	})
	return patch
}
