package plugin

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/plugin/manifest"
	"modelrights.dev/modelrights/internal/plugin/view"
)

func newExplanationList(seen *view.View, broken []*manifest.Error) *ExplanationList {
	list := &ExplanationList{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: "ExplanationList"},
		Items:    []Explanation{},
		Errors:   readErrors(broken),
	}
	if seen.Info != nil {
		list.GovernedRepositories = seen.Info.GovernedRepositories
		list.ExemptNamespaces = seen.Info.ExemptNamespaces
	}
	return list
}

// explain decides on every place of a subject by what the user can see.
func explain(s *subject, seen *view.View, now time.Time) Explanation {
	e := Explanation{
		Object: s.object, Origin: s.origin, Template: s.template,
		Namespace: s.namespace, ServiceAccount: s.account, NamespaceExempt: seen.Exempt(s.namespace),
		Verdict: NotGoverned, References: []ExplainedReference{},
	}
	for _, p := range s.places {
		r := explainPlace(s, p, seen, now)
		e.Verdict = gravest(e.Verdict, r.Verdict)
		e.References = append(e.References, r)
	}
	if s.spec != nil {
		pod := s.decidedPod(seen)
		for _, refusal := range entitlement.DecideKeyVolumes(pod, seen.Snapshot, now) {
			e.Volumes = append(e.Volumes, refusedField(refusal))
			e.Verdict = Refused
		}
		for _, refusal := range refusedAtCreation(s, pod, seen, now) {
			e.Fields = append(e.Fields, refusedField(refusal))
			e.Verdict = Refused
		}
	}
	return e
}

func refusedField(refusal entitlement.Refusal) RefusedField {
	return RefusedField{
		Path: refusal.Field, License: refusal.License, Reason: string(refusal.Reason),
		Message: refusal.Message, Remedy: refusal.Remedy, Fixer: entitlement.FixerOf(refusal.Reason),
	}
}

// refusedAtCreation is what keeps a pod that is yet to be made from waiting for its seats. What the mutating webhook adds
// is no reason.
func refusedAtCreation(s *subject, pod entitlement.Pod, seen *view.View, now time.Time) []entitlement.Refusal {
	if s.pod != nil || pod.Spec.NodeName == "" {
		return nil
	}
	return slices.DeleteFunc(entitlement.DecideStart(pod, entitlement.DecidePod(pod, seen.Snapshot, now)), func(r entitlement.Refusal) bool {
		return r.Reason != v1alpha1.ReasonNodeNameSet
	})
}

func (s *subject) decidedPod(seen *view.View) entitlement.Pod {
	return entitlement.Pod{Namespace: s.namespace, NamespaceLabels: seen.NamespaceLabels(s.namespace), Labels: s.labels, Spec: s.spec, Held: s.held()}
}

// held says whether the pod has its seats, by its condition.
func (s *subject) held() bool {
	return s.pod != nil && slices.ContainsFunc(s.pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == v1alpha1.PodConditionLicensed && c.Status == corev1.ConditionTrue
	})
}

func explainPlace(s *subject, p place, seen *view.View, now time.Time) ExplainedReference {
	r := ExplainedReference{Path: p.Field, Place: string(p.Kind), Name: p.Name, Confidence: string(p.Confidence)}
	if p.Confidence == images.Unresolved {
		r.Verdict = Unresolved
		r.Explanation = entitlement.Explanation{
			Image: p.Image, Normalized: p.normalized,
			Message: "what it names is not known before the manifest is rendered or the pod runs",
			Checks:  []entitlement.Check{},
		}
		return r
	}
	request := entitlement.Request{
		Image: p.Image, Namespace: s.namespace, NamespaceLabels: seen.NamespaceLabels(s.namespace),
		ServiceAccount: s.account, PodLabels: s.labels,
		Held: s.held(), Spec: s.spec,
	}
	if pinned := pinnedAtCreation(s, p, seen, now); pinned != "" {
		r.Original, request.Image = p.Image, pinned
	}
	r.Explanation = entitlement.Explain(request, seen.Snapshot, now)
	if p.Excess {
		r.Explanation = excess(s, p, request, seen, now)
	}
	d := r.Decision
	d.Reason = r.Reason
	switch {
	case d.Entitled():
		r.Verdict = Entitled
	case d.Refused():
		r.Verdict = Refused
	default:
		r.Verdict = NotGoverned
	}
	if r.Doubt = seen.Doubt(d, candidates(r.Explanation, seen)); r.Doubt != "" {
		r.Verdict = Unknown
	}
	return r
}

// candidates are the licences that cover the image.
func candidates(e entitlement.Explanation, seen *view.View) []*v1alpha1.ModelLicense {
	var all []*v1alpha1.ModelLicense
	for _, l := range e.Licenses {
		if license := seen.Snapshot.License(l.Name); license != nil {
			all = append(all, license)
		}
	}
	return all
}

// pinnedAtCreation is the reference that the mutating webhook makes of one in a pod that is yet to be made; empty where it
// leaves it as it is.
func pinnedAtCreation(s *subject, p place, seen *view.View, now time.Time) string {
	switch p.Kind {
	case images.UseArgument, images.UseCommand, images.UseEnvironmentVariable, images.UseEphemeralContainer:
		return ""
	}
	if s.pod != nil {
		return ""
	}
	pod := s.decidedPod(seen)
	pod.Spec = &corev1.PodSpec{ServiceAccountName: s.account, Containers: []corev1.Container{{Name: "any", Image: p.Image}}}
	for _, pinned := range entitlement.PinPod(pod, seen.Snapshot, now) {
		return pinned.Pinned
	}
	return ""
}

// excess explains the place from which on a pod's texts name more images than are looked at.
func excess(s *subject, p place, request entitlement.Request, seen *view.View, now time.Time) entitlement.Explanation {
	for _, e := range entitlement.ExplainPod(s.decidedPod(seen), seen.Snapshot, now) {
		if e.Use.Excess && e.Use.Field == p.Field {
			return e.Explanation
		}
	}
	return entitlement.Explain(request, seen.Snapshot, now)
}
