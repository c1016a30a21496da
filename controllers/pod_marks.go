package controllers

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxOldMarks bounds the marks that a condition keeps of what no longer is.
const maxOldMarks = 32

// marks are what was logged of a pod, as its condition says in brackets at the end of its message: hashes, each of one
// entry or of one image that was admitted. They survive restarts, so that nothing is logged twice. Whoever may patch
// pods/status can forge them, and so keep a pod of theirs from being reported; the log then lacks its entries.
type marks []string

// markOf is the mark of what the parts say.
func markOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return fmt.Sprintf("%x", sum[:6])
}

// admittedImage is the mark of an image that a pod was admitted with: when the entitlement to it is lost, the pod is not
// one that got past admission.
func admittedImage(image string) string { return markOf("admitted image", image) }

// marksOf reads the marks of one of a pod's conditions; there are none where there is no such condition.
func marksOf(pod *corev1.Pod, condition corev1.PodConditionType) marks {
	if c := conditionOf(pod, condition); c != nil {
		return strings.Fields(strings.TrimSuffix(c.Message[strings.LastIndexByte(c.Message, '[')+1:], "]"))
	}
	return nil
}

func (m marks) has(mark string) bool { return slices.Contains(m, mark) }

// with returns the marks that are needed, and of the others the first few.
func (m marks) with(needed marks) marks {
	all := marks(slices.Compact(slices.Sorted(slices.Values(needed))))
	old := slices.DeleteFunc(slices.Clone(m), all.has)
	return append(all, old[:min(len(old), maxOldMarks)]...)
}

// withoutMarks is what a condition says to people.
func withoutMarks(message string) string {
	if i := strings.LastIndexByte(message, '['); i >= 0 && strings.HasSuffix(message, "]") {
		return strings.TrimSuffix(message[:i], " ")
	}
	return message
}

func (m marks) String() string { return " [" + strings.Join(m, " ") + "]" }

// conditionOf is one of a pod's conditions, or nil.
func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
