package webhooks

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// Inject returns a copy of the pod into which the keys of the licences are brought: for each one volume of our CSI
// driver, mounted read-only at KeyDirectory/LICENCE in the containers that use the licence and in no others, and
// KeyFileVariable there. What the pod has already (a volume for that licence, a mount at that path, that variable) is
// left as it is, so that injecting twice changes nothing more. Licences without a key are passed over, and so are those
// that no container uses. Elements are only added, volumes and mounts at the end and the variable in front, so that
// other variables may refer to it as $(MODELRIGHTS_KEY_FILE).
func Inject(pod *corev1.Pod, licenses []entitlement.LicenseUse) *corev1.Pod {
	injected := pod.DeepCopy()
	spec := &injected.Spec
	keysOf := map[string][]string{} // the licences whose keys a container gets
	for _, use := range licenses {
		if len(use.KeyNames) == 0 || len(use.Containers) == 0 {
			continue
		}
		volume := ensureKeyVolume(spec, use.License.Name)
		for _, container := range use.Containers {
			keysOf[container] = append(keysOf[container], use.License.Name)
		}
		eachContainer(spec, func(c *corev1.Container) {
			if slices.Contains(use.Containers, c.Name) {
				ensureMount(c, volume, keyPath(use.License.Name))
			}
		})
	}
	eachContainer(spec, func(c *corev1.Container) {
		switch licenses := keysOf[c.Name]; len(licenses) {
		case 0:
		case 1:
			ensureVariable(c, path.Join(keyPath(licenses[0]), v1alpha1.KeyFileName))
		default:
			ensureVariable(c, v1alpha1.KeyDirectory)
		}
	})
	return injected
}

func keyPath(licenseName string) string { return path.Join(v1alpha1.KeyDirectory, licenseName) }

func eachContainer(spec *corev1.PodSpec, f func(*corev1.Container)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		f(&spec.Containers[i])
	}
}

// ensureKeyVolume returns the name of the pod's volume for the licence, which it adds if there is none.
func ensureKeyVolume(spec *corev1.PodSpec, licenseName string) string {
	for i := range spec.Volumes {
		if name, ours := entitlement.KeyVolume(&spec.Volumes[i]); ours && name == licenseName {
			return spec.Volumes[i].Name
		}
	}
	name := freeVolumeName(spec, licenseName)
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		CSI: &corev1.CSIVolumeSource{
			Driver:           v1alpha1.CSIDriverName,
			ReadOnly:         ptr.To(true),
			VolumeAttributes: map[string]string{v1alpha1.VolumeAttributeLicense: licenseName},
		},
	}})
	return name
}

// freeVolumeName is modelrights-LICENCE, or where a volume of another kind has that name, the same with the first free
// number after it, the licence's name shortened so that the whole is a DNS label.
func freeVolumeName(spec *corev1.PodSpec, licenseName string) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	}
	name := v1alpha1.VolumeNamePrefix + licenseName
	for n := 2; taken(name); n++ {
		number := fmt.Sprintf("-%d", n)
		room := min(len(licenseName), validation.DNS1123LabelMaxLength-len(v1alpha1.VolumeNamePrefix)-len(number))
		name = v1alpha1.VolumeNamePrefix + strings.TrimRight(licenseName[:room], "-") + number
	}
	return name
}

func ensureMount(c *corev1.Container, volume, mountPath string) {
	for _, m := range c.VolumeMounts {
		if path.Clean(m.MountPath) == mountPath {
			return
		}
	}
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: mountPath, ReadOnly: true})
}

func ensureVariable(c *corev1.Container, value string) {
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v1alpha1.KeyFileVariable }) {
		return
	}
	c.Env = slices.Insert(c.Env, 0, corev1.EnvVar{Name: v1alpha1.KeyFileVariable, Value: value})
}

// injectionPatch is the JSON patch (RFC 6902) that turns the pod into what Inject made of it. It only adds elements and
// never replaces or moves one (pinPatch replaces images), so that fields which the API server knows and this program does not are left alone.
func injectionPatch(pod, injected *corev1.Pod) []jsonpatch.Operation {
	patch := appended(nil, "/spec/volumes", pod.Spec.Volumes, injected.Spec.Volumes)
	containers := func(list string, before, after []corev1.Container) {
		for i := range before {
			at := fmt.Sprintf("/spec/%s/%d/", list, i)
			patch = appended(patch, at+"volumeMounts", before[i].VolumeMounts, after[i].VolumeMounts)
			switch {
			case len(after[i].Env) == len(before[i].Env):
			case len(before[i].Env) == 0:
				patch = append(patch, jsonpatch.NewOperation("add", at+"env", after[i].Env))
			default:
				patch = append(patch, jsonpatch.NewOperation("add", at+"env/0", after[i].Env[0]))
			}
		}
	}
	containers("initContainers", pod.Spec.InitContainers, injected.Spec.InitContainers)
	containers("containers", pod.Spec.Containers, injected.Spec.Containers)
	return patch
}

func appended[T any](patch []jsonpatch.Operation, list string, before, after []T) []jsonpatch.Operation {
	if len(before) == 0 && len(after) > 0 {
		return append(patch, jsonpatch.NewOperation("add", list, after))
	}
	for _, element := range after[len(before):] {
		patch = append(patch, jsonpatch.NewOperation("add", list+"/-", element))
	}
	return patch
}
