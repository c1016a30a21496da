package builders

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// PodBuilder builds a Pod.
type PodBuilder struct{ obj corev1.Pod }

// Pod starts a pod that runs as service account default. It has no container yet.
func Pod(namespace, name string) *PodBuilder {
	return &PodBuilder{corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}}
}

// GenerateName makes the API server name the pod.
func (b *PodBuilder) GenerateName(prefix string) *PodBuilder {
	b.obj.Name, b.obj.GenerateName = "", prefix
	return b
}

// ServiceAccount sets the account the pod runs as.
func (b *PodBuilder) ServiceAccount(name string) *PodBuilder {
	b.obj.Spec.ServiceAccountName = name
	return b
}

// Label sets a label.
func (b *PodBuilder) Label(key, value string) *PodBuilder {
	metav1.SetMetaDataLabel(&b.obj.ObjectMeta, key, value)
	return b
}

// Annotation sets an annotation.
func (b *PodBuilder) Annotation(key, value string) *PodBuilder {
	metav1.SetMetaDataAnnotation(&b.obj.ObjectMeta, key, value)
	return b
}

// UID sets the UID, which the API server sets where there is one.
func (b *PodBuilder) UID(uid string) *PodBuilder {
	b.obj.UID = types.UID(uid)
	return b
}

// Created sets the creation time, which the API server sets where there is one.
func (b *PodBuilder) Created(t time.Time) *PodBuilder {
	b.obj.CreationTimestamp = metav1.Time{Time: t}
	return b
}

// Deleted marks the pod as being deleted since then.
func (b *PodBuilder) Deleted(t time.Time) *PodBuilder {
	b.obj.DeletionTimestamp = &metav1.Time{Time: t}
	return b
}

// Gate adds scheduling gates; without a name, v1alpha1.SeatGate, as the webhook does.
func (b *PodBuilder) Gate(names ...string) *PodBuilder {
	if len(names) == 0 {
		names = []string{v1alpha1.SeatGate}
	}
	for _, name := range names {
		b.obj.Spec.SchedulingGates = append(b.obj.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: name})
	}
	return b
}

// Requests makes the containers and init containers of that name request resources: pairs of a resource and a quantity. What is
// no plain resource (a device, hugepages) is limited to the same, as the API server asks for.
func (b *PodBuilder) Requests(container string, pairs ...string) *PodBuilder {
	list := resources(pairs)
	for _, containers := range [][]corev1.Container{b.obj.Spec.InitContainers, b.obj.Spec.Containers} {
		for i := range containers {
			if c := &containers[i]; c.Name == container {
				c.Resources.Requests = list
				for name, quantity := range list {
					if strings.Contains(string(name), "/") || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
						if c.Resources.Limits == nil {
							c.Resources.Limits = corev1.ResourceList{}
						}
						c.Resources.Limits[name] = quantity
					}
				}
			}
		}
	}
	return b
}

// Priority sets the priority, which the API server sets from the class where there is one.
func (b *PodBuilder) Priority(value int32) *PodBuilder {
	b.obj.Spec.Priority = ptr.To(value)
	return b
}

// ResourceClaim adds a claim, used by containers that were added before.
func (b *PodBuilder) ResourceClaim(name, claim string, containers ...string) *PodBuilder {
	b.obj.Spec.ResourceClaims = append(b.obj.Spec.ResourceClaims, corev1.PodResourceClaim{Name: name, ResourceClaimName: ptr.To(claim)})
	for i := range b.obj.Spec.Containers {
		if c := &b.obj.Spec.Containers[i]; slices.Contains(containers, c.Name) {
			c.Resources.Claims = append(c.Resources.Claims, corev1.ResourceClaim{Name: name})
		}
	}
	return b
}

// NodeName binds the pod to a node.
func (b *PodBuilder) NodeName(name string) *PodBuilder {
	b.obj.Spec.NodeName = name
	return b
}

// NodeSelector selects nodes with a label.
func (b *PodBuilder) NodeSelector(key, value string) *PodBuilder {
	if b.obj.Spec.NodeSelector == nil {
		b.obj.Spec.NodeSelector = map[string]string{}
	}
	b.obj.Spec.NodeSelector[key] = value
	return b
}

// Finalizer adds a finalizer.
func (b *PodBuilder) Finalizer(name string) *PodBuilder {
	b.obj.Finalizers = append(b.obj.Finalizers, name)
	return b
}

// Owner sets the controller that owns the pod.
func (b *PodBuilder) Owner(apiVersion, kind, name, uid string) *PodBuilder {
	b.obj.OwnerReferences = append(b.obj.OwnerReferences, metav1.OwnerReference{
		APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(uid), Controller: ptr.To(true),
	})
	return b
}

// Container adds a container.
func (b *PodBuilder) Container(name, image string) *PodBuilder {
	b.obj.Spec.Containers = append(b.obj.Spec.Containers, corev1.Container{Name: name, Image: image})
	return b
}

// InitContainer adds an init container.
func (b *PodBuilder) InitContainer(name, image string) *PodBuilder {
	b.obj.Spec.InitContainers = append(b.obj.Spec.InitContainers, corev1.Container{Name: name, Image: image})
	return b
}

// Image gives another image to the containers and init containers of that name.
func (b *PodBuilder) Image(container, image string) *PodBuilder {
	for _, list := range [][]corev1.Container{b.obj.Spec.InitContainers, b.obj.Spec.Containers} {
		for i := range list {
			if list[i].Name == container {
				list[i].Image = image
			}
		}
	}
	return b
}

// EphemeralContainer adds an ephemeral container. The API server takes them through the subresource alone.
func (b *PodBuilder) EphemeralContainer(name, image string) *PodBuilder {
	b.obj.Spec.EphemeralContainers = append(b.obj.Spec.EphemeralContainers, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		},
	})
	return b
}

// ImageVolume adds a volume of an image, mounted at /volumes/NAME by containers that were added before.
func (b *PodBuilder) ImageVolume(name, image string, containers ...string) *PodBuilder {
	b.obj.Spec.Volumes = append(b.obj.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: image},
	}})
	return b.Mount(name, "/volumes/"+name, containers...)
}

// KeyVolume adds a volume of our CSI driver as the webhook does, mounted by containers that were added before.
func (b *PodBuilder) KeyVolume(licenseName string, containers ...string) *PodBuilder {
	name := v1alpha1.VolumeNamePrefix + licenseName
	return b.KeyVolumeNamed(name, licenseName).Mount(name, v1alpha1.KeyDirectory+"/"+licenseName, containers...)
}

// KeyVolumeNamed adds a volume of our CSI driver under another name, mounted by no container.
func (b *PodBuilder) KeyVolumeNamed(name, licenseName string) *PodBuilder {
	b.obj.Spec.Volumes = append(b.obj.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		CSI: &corev1.CSIVolumeSource{
			Driver: v1alpha1.CSIDriverName, ReadOnly: ptr.To(true),
			VolumeAttributes: map[string]string{v1alpha1.VolumeAttributeLicense: licenseName},
		},
	}})
	return b
}

// EmptyDir adds an emptyDir volume, mounted at /volumes/NAME by containers that were added before.
func (b *PodBuilder) EmptyDir(name string, containers ...string) *PodBuilder {
	b.obj.Spec.Volumes = append(b.obj.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{},
	}})
	return b.Mount(name, "/volumes/"+name, containers...)
}

// Mount mounts a volume read-only in containers that were added before, of any kind.
func (b *PodBuilder) Mount(volume, path string, containers ...string) *PodBuilder {
	mount := corev1.VolumeMount{Name: volume, MountPath: path, ReadOnly: true}
	for i := range b.obj.Spec.InitContainers {
		if c := &b.obj.Spec.InitContainers[i]; slices.Contains(containers, c.Name) {
			c.VolumeMounts = append(c.VolumeMounts, mount)
		}
	}
	for i := range b.obj.Spec.Containers {
		if c := &b.obj.Spec.Containers[i]; slices.Contains(containers, c.Name) {
			c.VolumeMounts = append(c.VolumeMounts, mount)
		}
	}
	for i := range b.obj.Spec.EphemeralContainers {
		if c := &b.obj.Spec.EphemeralContainers[i]; slices.Contains(containers, c.Name) {
			c.VolumeMounts = append(c.VolumeMounts, mount)
		}
	}
	return b
}

// Env sets an environment variable in the containers of that name, of any kind.
func (b *PodBuilder) Env(container, name, value string) *PodBuilder {
	return b.program(container, func(_, _ *[]string, env *[]corev1.EnvVar) {
		*env = append(*env, corev1.EnvVar{Name: name, Value: value})
	})
}

// EnvFrom sets an environment variable from an entry of a ConfigMap, both of the variable's name, in the containers of
// that name, of any kind.
func (b *PodBuilder) EnvFrom(container, name string, optional bool) *PodBuilder {
	return b.program(container, func(_, _ *[]string, env *[]corev1.EnvVar) {
		*env = append(*env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: name, Optional: ptr.To(optional),
		}}})
	})
}

// Command sets the command of the containers of that name, of any kind.
func (b *PodBuilder) Command(container string, command ...string) *PodBuilder {
	return b.program(container, func(c, _ *[]string, _ *[]corev1.EnvVar) { *c = command })
}

// Args sets the arguments of the containers of that name, of any kind.
func (b *PodBuilder) Args(container string, args ...string) *PodBuilder {
	return b.program(container, func(_, a *[]string, _ *[]corev1.EnvVar) { *a = args })
}

// program changes what the containers of that name run.
func (b *PodBuilder) program(container string, change func(command, args *[]string, env *[]corev1.EnvVar)) *PodBuilder {
	for _, list := range [][]corev1.Container{b.obj.Spec.InitContainers, b.obj.Spec.Containers} {
		for i := range list {
			if c := &list[i]; c.Name == container {
				change(&c.Command, &c.Args, &c.Env)
			}
		}
	}
	for i := range b.obj.Spec.EphemeralContainers {
		if c := &b.obj.Spec.EphemeralContainers[i]; c.Name == container {
			change(&c.Command, &c.Args, &c.Env)
		}
	}
	return b
}

// Obj returns the pod; the builder may go on building another from it.
func (b *PodBuilder) Obj() *corev1.Pod { return b.obj.DeepCopy() }
