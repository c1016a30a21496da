package images

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestFromPod(t *testing.T) {
	mounts := func(names ...string) []corev1.VolumeMount {
		var all []corev1.VolumeMount
		for _, name := range names {
			all = append(all, corev1.VolumeMount{Name: name, MountPath: "/" + name})
		}
		return all
	}
	spec := &corev1.PodSpec{
		Volumes: []corev1.Volume{
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "weights", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r.example/weights"}}},
			{Name: "unused", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r.example/unused"}}},
			{Name: "empty", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}},
		},
		InitContainers: []corev1.Container{{Name: "fetch", Image: "r.example/fetch", VolumeMounts: mounts("weights", "scratch")}},
		Containers: []corev1.Container{
			{Name: "main", Image: "r.example/main", VolumeMounts: mounts("weights", "weights")},
			{Name: "proxy", Image: "r.example/proxy", VolumeMounts: mounts("scratch")},
			{Name: "none"},
		},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: "r.example/debug", VolumeMounts: mounts("weights"),
		}}},
	}
	declared := func(kind UseKind, name, field, image string, containers ...string) Use {
		return Use{Kind: kind, Confidence: Declared, Name: name, Field: field, Image: image, Containers: containers}
	}
	want := []Use{
		declared(UseImageVolume, "weights", "spec.volumes[1].image.reference", "r.example/weights", "fetch", "main"),
		declared(UseImageVolume, "unused", "spec.volumes[2].image.reference", "r.example/unused"),
		declared(UseInitContainer, "fetch", "spec.initContainers[0].image", "r.example/fetch", "fetch"),
		declared(UseContainer, "main", "spec.containers[0].image", "r.example/main", "main"),
		declared(UseContainer, "proxy", "spec.containers[1].image", "r.example/proxy", "proxy"),
		declared(UseEphemeralContainer, "debug", "spec.ephemeralContainers[0].image", "r.example/debug", "debug"),
	}
	if got := FromPod(spec); !reflect.DeepEqual(got, want) {
		t.Errorf("FromPod = %+v, want %+v", got, want)
	}
	if got := FromPod(&corev1.PodSpec{}); len(got) != 0 {
		t.Errorf("FromPod of an empty pod = %+v", got)
	}
}

// placesOfImages are the fields of a pod that hold image references. A field that a new API brings must be added to
// FromPod, to the validating webhook's rules and here.
var placesOfImages = map[string]bool{
	"Containers.Image": true, "InitContainers.Image": true, "EphemeralContainers.EphemeralContainerCommon.Image": true,
	"Volumes.VolumeSource.Image.Reference": true,
}

// TestNoPlaceIsForgotten walks the type of a pod's spec and finds every string field that could name an image.
func TestNoPlaceIsForgotten(t *testing.T) {
	found := map[string]bool{}
	var walk func(reflect.Type, string, map[reflect.Type]bool)
	walk = func(ty reflect.Type, path string, above map[reflect.Type]bool) {
		for ty.Kind() == reflect.Pointer || ty.Kind() == reflect.Slice || ty.Kind() == reflect.Map {
			ty = ty.Elem()
		}
		if ty.Kind() != reflect.Struct || above[ty] {
			return
		}
		above[ty] = true
		defer delete(above, ty)
		for i := range ty.NumField() {
			field := ty.Field(i)
			at := field.Name
			if path != "" {
				at = path + "." + field.Name
			}
			named := field.Name == "Image" || field.Name == "Reference"
			if named && field.Type.Kind() == reflect.String && ty != reflect.TypeFor[corev1.RBDVolumeSource]() {
				found[at] = true
			}
			walk(field.Type, at, above)
		}
	}
	walk(reflect.TypeFor[corev1.PodSpec](), "", map[reflect.Type]bool{})
	if !reflect.DeepEqual(found, placesOfImages) {
		t.Errorf("fields that name images: %v, want %v", found, placesOfImages)
	}
}
