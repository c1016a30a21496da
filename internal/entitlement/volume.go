package entitlement

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Refusal is a refusal that speaks of a field of the pod rather than of an image.
type Refusal struct {
	// Field is the path of the field.
	Field string
	// Reason is why.
	Reason v1alpha1.Reason
	// License is the name of the licence that is spoken of; may be empty.
	License string
	// Message says what is wrong, Remedy what to do about it.
	Message, Remedy string
}

// KeyVolume says whether a volume is one of our CSI driver's, and which licence it names.
func KeyVolume(v *corev1.Volume) (licenseName string, ours bool) {
	if v.CSI == nil || v.CSI.Driver != v1alpha1.CSIDriverName {
		return "", false
	}
	return v.CSI.VolumeAttributes[v1alpha1.VolumeAttributeLicense], true
}

// HeldLicenses lists the licences whose key volume a pod has, each once, in the order of the volumes.
func HeldLicenses(spec *corev1.PodSpec) []string {
	var held []string
	for i := range spec.Volumes {
		if name, ours := KeyVolume(&spec.Volumes[i]); ours {
			held = addNew(held, name)
		}
	}
	return held
}

// DecideKeyVolumes holds the key volumes that a pod has to the same decision as its images, whoever wrote them: each
// names a licence that the pod uses and is entitled to, and only containers which use it mount it.
func DecideKeyVolumes(pod Pod, s *Snapshot, now time.Time) []Refusal {
	var refusals []Refusal
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		name, ours := KeyVolume(volume)
		if !ours {
			continue
		}
		field := fmt.Sprintf("spec.volumes[%d]", i)
		if refusal := checkVolumeForm(volume, field, name); refusal != nil {
			refusals = append(refusals, *refusal)
			continue
		}
		refusals = append(refusals, decideKeyVolume(pod, volume.Name, field, name, s, now)...)
	}
	return refusals
}

// checkVolumeForm: the volume says which licence, and nothing that the driver does not serve.
func checkVolumeForm(v *corev1.Volume, field, licenseName string) *Refusal {
	invalid := func(problem string) *Refusal {
		return &Refusal{
			Field: field, Reason: v1alpha1.ReasonKeyVolumeInvalid, License: licenseName,
			Message: fmt.Sprintf("volume %s of driver %s %s", v.Name, v1alpha1.CSIDriverName, problem),
			Remedy:  "leave the volume out: it is added to entitled pods where it is needed",
		}
	}
	switch {
	case licenseName == "":
		return invalid("names no licence: volumeAttributes." + v1alpha1.VolumeAttributeLicense + " is missing")
	case len(v.CSI.VolumeAttributes) != 1:
		return invalid("has volumeAttributes other than " + v1alpha1.VolumeAttributeLicense)
	case v.CSI.NodePublishSecretRef != nil:
		return invalid("has a nodePublishSecretRef")
	case v.CSI.FSType != nil && *v.CSI.FSType != "":
		return invalid("has an fsType")
	}
	return nil
}

func decideKeyVolume(pod Pod, volume, field, licenseName string, s *Snapshot, now time.Time) []Refusal {
	decided := DecidePodFor(pod, licenseName, s, now)
	licenses := decided.Licenses()
	if len(licenses) == 0 {
		return []Refusal{noKeyFor(pod, volume, field, licenseName, decided, s)}
	}
	var refusals []Refusal
	for _, container := range images.Mounting(pod.Spec, volume) {
		if !slices.Contains(licenses[0].Containers, container) {
			refusals = append(refusals, Refusal{
				Field: field, Reason: v1alpha1.ReasonModelNotReferenced, License: licenseName,
				Message: fmt.Sprintf("container %s mounts the key of licence %s, but uses none of its images", container, licenseName),
				Remedy:  "remove the volumeMount; only containers that run a model's image, or mount it as an image volume, get its key, and ephemeral containers never do",
			})
		}
	}
	return refusals
}

// noKeyFor explains why a pod that wants a licence's key is not entitled to it.
func noKeyFor(pod Pod, volume, field, licenseName string, decided PodDecision, s *Snapshot) Refusal {
	refusal := Refusal{Field: field, License: licenseName}
	switch {
	case len(decided) > 0:
		refusal.Reason, refusal.Message, refusal.Remedy = decided[0].Reason, decided[0].Message(), decided[0].Remedy()
	case s.License(licenseName) == nil:
		refusal.Reason = v1alpha1.ReasonLicenseMissing
		refusal.Message = fmt.Sprintf("volume %s wants the key of licence %q, which does not exist", volume, clip(licenseName))
		refusal.Remedy = "leave the volume out: it is added to entitled pods where it is needed; kubectl get mlic lists the licences"
	default:
		refusal.Reason = v1alpha1.ReasonModelNotReferenced
		refusal.Message = fmt.Sprintf("volume %s wants the key of licence %s, but no image of this pod in namespace %s is covered by it", volume, licenseName, pod.Namespace)
		refusal.Remedy = "leave the volume out: it is added to entitled pods where it is needed"
	}
	return refusal
}
