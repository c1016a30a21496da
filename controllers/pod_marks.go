package controllers

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"unicode"

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
		_, m := splitMarks(c.Message)
		return m
	}
	return nil
}

// splitMarks parts what a condition says to people from the marks after it.
func splitMarks(message string) (string, marks) {
	i := strings.LastIndex(message, " [")
	if i < 0 || !strings.HasSuffix(message, "]") {
		return message, nil
	}
	m := marks(strings.Fields(message[i+2 : len(message)-1]))
	for _, mark := range m {
		if strings.ContainsFunc(mark, func(r rune) bool { return unicode.IsUpper(r) || r == ',' }) {
			return message, nil // a reason
		}
	}
	return message[:i], m
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
	text, _ := splitMarks(message)
	return text
}

func (m marks) String() string {
	if len(m) == 0 {
		return ""
	}
	return " [" + strings.Join(m, " ") + "]"
}

// conditionOf is one of a pod's conditions, or nil.
func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
