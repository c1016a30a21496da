package controllers

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// standing is what a stored pod's images come to, compared with what was logged of it.
type standing struct {
	// admitted is what the pod is entitled to, found what it is not and was never admitted to.
	admitted []admission
	found    []finding
	// needed are the marks of both, and of images that the pod was admitted with and has lost the right to.
	needed marks
	// logged are the marks of the pod's condition.
	logged marks
	// condition is the pod's condition, nil where it has none.
	condition *corev1.PodCondition
}

// standingOf compares what was decided on a pod with its condition.
func standingOf(pod *corev1.Pod, decided entitlement.PodDecision) standing {
	s := standing{logged: marksOf(pod, v1alpha1.PodConditionLicensed), condition: conditionOf(pod, v1alpha1.PodConditionLicensed)}
	for _, use := range decided.Licenses() {
		a := admissionOf(pod, use)
		s.admitted = append(s.admitted, a)
		s.needed = append(s.needed, a.mark)
		for _, image := range use.Images {
			s.needed = append(s.needed, admittedImage(image))
		}
	}
	var refused entitlement.PodDecision
	for _, use := range decided.Refused() {
		if mark := admittedImage(use.Image); s.logged.has(mark) {
			s.needed = append(s.needed, mark)
		} else if wasInForce(pod, use.License) {
			refused = append(refused, use)
		}
	}
	s.found = findingsOf(pod, refused)
	for _, f := range s.found {
		s.needed = append(s.needed, f.mark)
	}
	return s
}

// wasInForce says whether a licence spoke of a pod while it ran. That is only in doubt for a pod which has ended: nothing
// is held against it by a licence that came, or was changed, later.
func wasInForce(pod *corev1.Pod, l *v1alpha1.ModelLicense) bool {
	if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		return true
	}
	return l != nil && l.Generation == 1 && l.CreationTimestamp.Before(&pod.CreationTimestamp)
}

// wasAdmitted says whether a pod's condition says that it was admitted under a licence.
func wasAdmitted(pod *corev1.Pod) bool {
	c := conditionOf(pod, v1alpha1.PodConditionLicensed)
	return c != nil && c.Status == corev1.ConditionTrue && len(marksOf(pod, v1alpha1.PodConditionLicensed)) > 0
}

// unlogged is what of the standing is not in the log.
func (s standing) unlogged() (admitted []admission, found []finding) {
	for _, a := range s.admitted {
		if !s.logged.has(a.mark) {
			admitted = append(admitted, a)
		}
	}
	for _, f := range s.found {
		if !s.logged.has(f.mark) {
			found = append(found, f)
		}
	}
	return admitted, found
}

// settled says whether all is logged and the condition says so.
func (s standing) settled() bool {
	admitted, found := s.unlogged()
	if len(admitted) > 0 || len(found) > 0 {
		return false
	}
	accused := s.condition != nil && s.condition.Status == corev1.ConditionFalse
	switch {
	case isRevoked(s.condition): // which the revocation controller says, and takes back
		return true
	case len(s.found) > 0:
		return accused && s.condition.Reason == string(s.found[0].reason)
	case len(s.admitted) > 0 || len(s.needed) == 0:
		return !accused
	default: // of what the pod was admitted to all is lost, which is not told here
		return true
	}
}

// desired is the condition that the pod is to have: False while something is found, True where it runs under licences
// alone, nil where nothing is to be said.
func (s standing) desired(now time.Time) *corev1.PodCondition {
	c := corev1.PodCondition{Type: v1alpha1.PodConditionLicensed, LastTransitionTime: metav1.NewTime(now)}
	var notes []string
	switch {
	case isRevoked(s.condition):
		kept := *s.condition
		kept.Message = withoutMarks(kept.Message) + s.logged.with(s.needed).String()
		return &kept
	case len(s.found) > 0:
		c.Status, c.Reason = corev1.ConditionFalse, string(s.found[0].reason)
		for _, f := range s.found {
			notes = append(notes, "not entitled "+f.note)
		}
	case len(s.admitted) > 0:
		c.Status, c.Reason = corev1.ConditionTrue, string(v1alpha1.ReasonEntitled)
	case len(s.needed) > 0:
		return s.condition
	default:
		return nil
	}
	for _, a := range s.admitted {
		notes = append(notes, a.note)
	}
	c.Message = bounded(strings.Join(notes, ", ")) + s.logged.with(s.needed).String()
	if s.condition != nil && s.condition.Status == c.Status {
		c.LastTransitionTime = s.condition.LastTransitionTime
	}
	return &c
}

// begins is when a licence or a grant begins that what was found waits for; zero where none does.
func (s standing) begins(now time.Time) time.Time {
	var first time.Time
	for _, f := range s.found {
		if f.reason != v1alpha1.ReasonNotYetValid && f.reason != v1alpha1.ReasonGrantNotYetValid {
			continue
		}
		if t := entitlement.NextChange(f.license, f.grant, now); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// setPodCondition puts a condition in the place of the pod's of that kind, or removes that.
func setPodCondition(pod *corev1.Pod, kind corev1.PodConditionType, c *corev1.PodCondition) {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	switch {
	case c == nil && i >= 0:
		pod.Status.Conditions = slices.Delete(pod.Status.Conditions, i, i+1)
	case c == nil:
	case i >= 0:
		pod.Status.Conditions[i] = *c
	default:
		pod.Status.Conditions = append(pod.Status.Conditions, *c)
	}
}
