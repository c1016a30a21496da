package controllers

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
)

// admission is what a pod was admitted to under one licence.
type admission struct {
	use entitlement.LicenseUse
	// note says it in words, entry to the audit log.
	note  string
	entry audit.Entry
	// mark stands for licence and images in the pod's condition; where it is there, the entry is in the log.
	mark string
}

func admissionOf(pod *corev1.Pod, use entitlement.LicenseUse) admission {
	sum := sha256.Sum256([]byte(string(use.License.UID) + "\n" + strings.Join(use.Images, "\n")))
	a := admission{
		use:  use,
		note: fmt.Sprintf("licence %s of %s by grant %s", use.License.Name, use.License.Spec.Licensor, use.Grant.Name),
		mark: fmt.Sprintf("%x", sum[:6]),
		entry: audit.Entry{
			Type:           audit.Admitted,
			Namespace:      pod.Namespace,
			Pod:            audit.ObjectOf(pod),
			Owner:          audit.OwnerOf(pod),
			ServiceAccount: pod.Spec.ServiceAccountName,
			License:        audit.ObjectOf(use.License),
			Grant:          audit.ObjectOf(use.Grant),
			Images:         use.Images,
			Reason:         v1alpha1.ReasonEntitled,
		},
	}
	a.entry.ID = fmt.Sprintf("%s/%s/%s/%s", audit.Admitted, pod.UID, use.License.UID, a.mark)
	return a
}

// licensedCondition says under which licences a pod runs, and by their marks in brackets, what of it was logged.
func licensedCondition(all []admission, now time.Time) corev1.PodCondition {
	notes, marks := make([]string, len(all)), make([]string, len(all))
	for i, a := range all {
		notes[i], marks[i] = a.note, a.mark
	}
	logged := " [" + strings.Join(marks, " ") + "]"
	return corev1.PodCondition{
		Type:               v1alpha1.PodConditionLicensed,
		Status:             corev1.ConditionTrue,
		Reason:             string(v1alpha1.ReasonEntitled),
		Message:            bounded(strings.Join(notes, ", ")) + logged,
		LastTransitionTime: metav1.NewTime(now),
	}
}

// loggedMarks is the part of a pod's condition that says what was logged; empty where nothing was.
func loggedMarks(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == v1alpha1.PodConditionLicensed {
			return c.Message[strings.LastIndexByte(c.Message, '[')+1:]
		}
	}
	return ""
}
