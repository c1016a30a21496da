package entitlement

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// Pod is what a decision needs to know of a pod.
type Pod struct {
	// Namespace is the pod's namespace. In an admission request the object itself may not carry it.
	Namespace string
	// NamespaceLabels are the namespace's labels.
	NamespaceLabels map[string]string
	// Labels are the pod's labels.
	Labels map[string]string
	// Spec is the pod's spec. It is only read.
	Spec *corev1.PodSpec
	// Held says that the pod has its seats already, so that grace periods are for it: see Request.Held.
	Held bool
	// Seats are the licences that the pod holds seats of, as far as is known: see Request.Seats.
	Seats []string
}

// UseDecision is the decision on one place of a pod that names an image.
type UseDecision struct {
	images.Use
	Decision
}

// opens says whether the use may bring a key: a declared image in a container that is there from the start. A guess may
// refuse, it never opens.
func (d UseDecision) opens() bool {
	return d.Confidence == images.Declared && d.Kind != images.UseEphemeralContainer && len(d.Containers) > 0
}

// PodDecision is the decision on every place of a pod that names an image, in the order in which images.FromPod lists
// them; places where the image is unresolved are left out.
type PodDecision []UseDecision

// DecidePod decides on every image that a pod names.
func DecidePod(pod Pod, s *Snapshot, now time.Time) PodDecision {
	return decideUses(pod, images.FromPod(pod.Spec), "", s, now)
}

// DecidePodFor decides on every image that a pod names under one licence alone: images that it does not cover are left
// out. An empty result means that the pod uses nothing of the licence.
func DecidePodFor(pod Pod, licenseName string, s *Snapshot, now time.Time) PodDecision {
	return slices.DeleteFunc(decideUses(pod, images.FromPod(pod.Spec), licenseName, s, now), func(d UseDecision) bool {
		return d.License == nil
	})
}

// DecideUses decides on some of the places of a pod that name an image: an update decides only on those it changes.
func DecideUses(pod Pod, uses []images.Use, s *Snapshot, now time.Time) PodDecision {
	return decideUses(pod, uses, "", s, now)
}

// decideUses decides on all but what is unresolved: of that nothing can be said.
func decideUses(pod Pod, uses []images.Use, licenseName string, s *Snapshot, now time.Time) PodDecision {
	decided := make(PodDecision, 0, len(uses))
	for _, use := range uses {
		if use.Confidence != images.Unresolved {
			decided = append(decided, UseDecision{Use: use, Decision: decideUse(pod, use, licenseName, s, now)})
		}
	}
	return decided
}

func decideUse(pod Pod, use images.Use, licenseName string, s *Snapshot, now time.Time) Decision {
	request := Request{
		Image:           use.Image,
		Namespace:       pod.Namespace,
		NamespaceLabels: pod.NamespaceLabels,
		ServiceAccount:  pod.Spec.ServiceAccountName,
		PodLabels:       pod.Labels,
		License:         licenseName,
		Held:            pod.Held,
		Seats:           pod.Seats,
		Spec:            pod.Spec,
	}
	if use.Excess && s.GovernsAnything() {
		return Decision{Request: request, Reason: v1alpha1.ReasonTooManyReferences}
	}
	return Decide(request, s, now)
}

// Governed says whether the pod names any image that is our business.
func (d PodDecision) Governed() bool {
	return slices.ContainsFunc(d, func(u UseDecision) bool { return u.Governed() })
}

// Refused lists the uses of governed images to which nothing entitles, those that admission tolerates among them.
func (d PodDecision) Refused() PodDecision {
	return d.only(func(u *UseDecision) bool { return u.Decision.Refused() })
}

// Denied lists the uses that admission must prevent: what is refused and not tolerated.
func (d PodDecision) Denied() PodDecision {
	return d.only(func(u *UseDecision) bool { return u.Decision.Refused() && !u.Tolerated })
}

func (d PodDecision) only(keep func(*UseDecision) bool) PodDecision {
	var kept PodDecision
	for i := range d {
		if keep(&d[i]) {
			kept = append(kept, d[i])
		}
	}
	return kept
}

// LicenseUse is what a pod uses of one licence, and is entitled to.
type LicenseUse struct {
	// License is the licence, Grant the grant that covers its first use in the pod.
	License *v1alpha1.ModelLicense
	Grant   *v1alpha1.ModelGrant
	// Images are the references, inferred ones included, each once, in the order of the pod's fields.
	Images []string
	// KeyNames are the licence's keys that open what Containers use, each once, in order of name. Empty where the licence
	// has none.
	KeyNames []string
	// Containers are the names of the containers, ephemeral ones left out, that run one of the images or mount it as a
	// volume, each once, in order of name. These, and no others, may mount the key. A container that names an image in an
	// argument alone is not one of them.
	Containers []string
}

// Licenses lists what the pod is entitled to, in the order of the licences' names.
func (d PodDecision) Licenses() []LicenseUse {
	var all []LicenseUse
	for _, u := range d {
		if !u.Entitled() {
			continue
		}
		i := slices.IndexFunc(all, func(l LicenseUse) bool { return l.License.Name == u.License.Name })
		if i < 0 {
			all = append(all, LicenseUse{License: u.License, Grant: u.Grant})
			i = len(all) - 1
		}
		all[i].Images = addNew(all[i].Images, u.Image)
		if !u.opens() {
			continue
		}
		for _, c := range u.Containers {
			all[i].Containers = addNew(all[i].Containers, c)
		}
		if u.KeyName != "" {
			all[i].KeyNames = addNew(all[i].KeyNames, u.KeyName)
		}
	}
	for i := range all {
		slices.Sort(all[i].KeyNames)
		slices.Sort(all[i].Containers)
	}
	slices.SortFunc(all, func(a, b LicenseUse) int { return cmp.Compare(a.License.Name, b.License.Name) })
	return all
}

func addNew(values []string, v string) []string {
	if slices.Contains(values, v) {
		return values
	}
	return append(values, v)
}
