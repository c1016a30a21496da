package entitlement

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Refusal is a refusal that speaks of a field of the pod rather than of an image.
type Refusal struct {
	// Field is the path of the field.
	Field string
	// Image is the reference that is spoken of; may be empty.
	Image string
	// Reason is why.
	Reason v1alpha1.Reason
	// License is the name of the licence that is spoken of; may be empty.
	License string
	// Message says what is wrong, Remedy what to do about it.
	Message, Remedy string
	// Tolerated says that admission lets it pass, since every licence that covers the image relaxes: see Decision.
	Tolerated bool
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
	for _, change := range changedKeyVolumes(&corev1.PodSpec{}, pod.Spec) {
		refusals = append(refusals, decideKeyVolume(pod, change, s, now)...)
	}
	return refusals
}

// keyVolumeChange is a key volume of a pod that is new, or that is newly mounted.
type keyVolumeChange struct {
	volume  *corev1.Volume
	field   string
	license string
	// added says that the volume itself is new.
	added bool
	// mounting are the containers that mount it and did not before.
	mounting []string
}

// changedKeyVolumes lists the key volumes that are new in a pod or newly mounted, in the order of the pod's volumes.
func changedKeyVolumes(old, updated *corev1.PodSpec) []keyVolumeChange {
	var changes []keyVolumeChange
	for i := range updated.Volumes {
		volume := &updated.Volumes[i]
		name, ours := KeyVolume(volume)
		if !ours {
			continue
		}
		change := keyVolumeChange{volume: volume, field: fmt.Sprintf("spec.volumes[%d]", i), license: name}
		change.mounting = images.Mounting(updated, volume.Name)
		if change.added = !slices.ContainsFunc(old.Volumes, func(v corev1.Volume) bool {
			return equality.Semantic.DeepEqual(v, *volume)
		}); !change.added {
			before := images.Mounting(old, volume.Name)
			change.mounting = slices.DeleteFunc(change.mounting, func(c string) bool { return slices.Contains(before, c) })
		}
		if change.added || len(change.mounting) > 0 {
			changes = append(changes, change)
		}
	}
	return changes
}

// checkVolumeForm: the volume says which licence, and nothing that the driver does not serve.
func checkVolumeForm(v *corev1.Volume, field, licenseName string) *Refusal {
	invalid := func(problem string) *Refusal {
		return &Refusal{
			Field: field, Reason: v1alpha1.ReasonKeyVolumeInvalid, License: licenseName,
			Message: fmt.Sprintf("volume %s of driver %s %s", v.Name, v1alpha1.CSIDriverName, problem),
			Remedy:  leaveOut,
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

func decideKeyVolume(pod Pod, change keyVolumeChange, s *Snapshot, now time.Time) []Refusal {
	if refusal := checkVolumeForm(change.volume, change.field, change.license); refusal != nil {
		return []Refusal{*refusal}
	}
	decided := DecidePodFor(pod, change.license, s, now)
	licenses := decided.Licenses()
	if len(licenses) == 0 {
		return []Refusal{noKeyFor(pod, change, decided, s)}
	}
	var refusals []Refusal
	refuse := func(reason v1alpha1.Reason, message, remedy string) {
		refusals = append(refusals, Refusal{Field: change.field, Reason: reason, License: change.license, Message: message, Remedy: remedy})
	}
	if change.added && len(licenses[0].Containers) == 0 {
		refuse(v1alpha1.ReasonModelNotReferenced,
			fmt.Sprintf("volume %s wants the key of licence %s, but no container runs one of its images or mounts it as an image volume", change.volume.Name, change.license),
			leaveOut)
	}
	if change.added && (change.volume.CSI.ReadOnly == nil || !*change.volume.CSI.ReadOnly) {
		refuse(v1alpha1.ReasonKeyVolumeInvalid,
			fmt.Sprintf("volume %s of driver %s is not readOnly: true", change.volume.Name, v1alpha1.CSIDriverName),
			"set csi.readOnly: true, or "+leaveOut)
	}
	for _, container := range change.mounting {
		switch {
		case isEphemeral(pod.Spec, container):
			refuse(v1alpha1.ReasonKeyVolumeInvalid,
				fmt.Sprintf("ephemeral container %s mounts the key of licence %s, which ephemeral containers never do", container, change.license),
				"remove the volumeMount from the ephemeral container")
		case !slices.Contains(licenses[0].Containers, container):
			refuse(v1alpha1.ReasonModelNotReferenced,
				fmt.Sprintf("container %s mounts the key of licence %s, but uses none of its images", container, change.license),
				"remove the volumeMount; only containers that run a model's image, or mount it as an image volume, get its key")
		}
	}
	return refusals
}

func isEphemeral(spec *corev1.PodSpec, container string) bool {
	return slices.ContainsFunc(spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == container })
}

// leaveOut is what to do about nearly every volume that a tenant wrote.
const leaveOut = "leave the volume out: it is added to entitled pods where it is needed"

// noKeyFor explains why a pod that wants a licence's key is not entitled to it.
func noKeyFor(pod Pod, change keyVolumeChange, decided PodDecision, s *Snapshot) Refusal {
	volume, licenseName := change.volume.Name, change.license
	refusal := Refusal{Field: change.field, License: licenseName}
	switch {
	case len(decided) > 0:
		refusal.Image, refusal.Reason, refusal.Tolerated = decided[0].Image, decided[0].Reason, decided[0].Tolerated
		refusal.Message, refusal.Remedy = decided[0].Message(), decided[0].Remedy()
	case s.License(licenseName) == nil:
		refusal.Reason = v1alpha1.ReasonLicenseMissing
		refusal.Message = fmt.Sprintf("volume %s wants the key of licence %q, which does not exist", volume, clip(licenseName))
		refusal.Remedy = leaveOut + "; kubectl get mlic lists the licences"
	default:
		refusal.Reason = v1alpha1.ReasonModelNotReferenced
		refusal.Message = fmt.Sprintf("volume %s wants the key of licence %s, but no image of this pod in namespace %s is covered by it", volume, licenseName, pod.Namespace)
		refusal.Remedy = leaveOut
	}
	return refusal
}
