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

// ChangesAnything says whether an update of a pod touches what is decided: a place that names an image, a key volume or
// a mount of one. Updates that do not (finalizers, labels, resources, status) need no decision, and so never wait for
// one: a pod whose licence was revoked can still be scaled down and deleted.
func ChangesAnything(old, updated *corev1.PodSpec) bool {
	return len(changedUses(old, updated)) > 0 || len(changedKeyVolumes(old, updated)) > 0
}

// Resizes says whether an update changes what a pod requests.
func Resizes(old, updated *corev1.PodSpec) bool {
	same := func(a, b corev1.Container) bool { return equality.Semantic.DeepEqual(a.Resources, b.Resources) }
	return !equality.Semantic.DeepEqual(old.Resources, updated.Resources) ||
		!slices.EqualFunc(old.Containers, updated.Containers, same) || !slices.EqualFunc(old.InitContainers, updated.InitContainers, same)
}

// DecideUpdate decides on what an update changes in a pod, and on nothing else: images that were not in the same place
// before, key volumes and mounts of them that are new, images that are changed in a pod that holds a key, and licences that
// a pod begins to use when it runs already. The pod is given as it is to be, old is its spec as it was.
func DecideUpdate(pod Pod, old *corev1.PodSpec, s *Snapshot, now time.Time) (PodDecision, []Refusal) {
	changed := changedUses(old, pod.Spec)
	refusals := decideSwaps(pod, old, changed, s, now)
	for _, change := range changedKeyVolumes(old, pod.Spec) {
		refusals = append(refusals, decideKeyVolume(pod, change, s, now)...)
	}
	decided := DecideUses(pod, changed, s, now)
	if len(refusals) == 0 {
		refusals = decideBeginning(pod, old, decided, s)
	}
	return decided, refusals
}

// changedUses lists the uses of a pod that the old spec has not in the same place with the same image.
func changedUses(old, updated *corev1.PodSpec) []images.Use {
	type place struct {
		kind        images.UseKind
		name, image string
	}
	known := map[place]bool{}
	for _, u := range images.FromPod(old) {
		known[place{u.Kind, u.Name, u.Image}] = !u.Excess
	}
	return slices.DeleteFunc(images.FromPod(updated), func(u images.Use) bool {
		// What lies beyond the excess is not known: it is the same only if all texts are.
		return known[place{u.Kind, u.Name, u.Image}] || u.Excess && images.SameTexts(old, updated)
	})
}

// decideSwaps: in a pod that holds keys, an image changes only to one that a held licence covers, and a container goes
// on using every licence whose key it mounts. Otherwise whoever may update a pod could put a shell beside the key.
// Ephemeral containers are added and not changed, and never mount a key, so they are left to the other decisions, as is
// what commands, arguments and variables name.
func decideSwaps(pod Pod, old *corev1.PodSpec, changed []images.Use, s *Snapshot, now time.Time) []Refusal {
	held := HeldLicenses(old)
	for _, name := range HeldLicenses(pod.Spec) {
		held = addNew(held, name)
	}
	if len(held) == 0 {
		return nil
	}
	// Who uses each held licence, whether the pod is still entitled to it or not.
	users := map[string][]string{}
	covered := map[string]bool{}
	for _, name := range held {
		for _, u := range DecidePodFor(pod, name, s, now) {
			if u.Confidence != images.Declared {
				continue
			}
			covered[u.Field] = true
			users[name] = append(users[name], u.Containers...)
		}
	}

	var refusals []Refusal
	for _, u := range changed {
		if u.Kind == images.UseEphemeralContainer || u.Confidence != images.Declared {
			continue
		}
		swapped := func(licenseName string) {
			refusals = append(refusals, Refusal{
				Field: u.Field, Image: u.Image, Reason: v1alpha1.ReasonImageSwapped, License: licenseName,
				Message: fmt.Sprintf("%s %s of a pod that holds the key of licence %s is to change to image %q, which the licence does not cover", u.Kind, u.Name, clip(licenseName), clip(u.Image)),
				Remedy:  "create a new pod with that image instead (a Deployment does so by itself), or change only to images of the licence",
			})
		}
		if !covered[u.Field] {
			swapped(held[0])
			continue
		}
		for i := range pod.Spec.Volumes {
			name, ours := KeyVolume(&pod.Spec.Volumes[i])
			if ours && u.Kind != images.UseImageVolume && slices.Contains(images.Mounting(pod.Spec, pod.Spec.Volumes[i].Name), u.Name) && !slices.Contains(users[name], u.Name) {
				swapped(name)
			}
		}
	}
	return refusals
}
