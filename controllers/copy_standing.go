package controllers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/copies"
)

// podCopy is what a pod runs that is a copy of one licence's images.
type podCopy struct {
	license *v1alpha1.ModelLicense
	// licensed says that the pod is entitled to every one of the images under another licence.
	licensed bool
	// note says which image is a copy of which.
	note  string
	entry audit.Entry
	// mark stands for licence and images in the pod's condition, the licence by its name; where it is there, the entry is
	// in the log.
	mark string
}

// copied is an image that a pod runs, and what it is a copy of.
type copied struct {
	image runningImage
	match copies.Match
}

func podCopyOf(pod *corev1.Pod, l *v1alpha1.ModelLicense, all []copied) podCopy {
	var references, notes []string
	parts := []string{"copy", string(l.UID)}
	for _, c := range all {
		parts = append(parts, c.image.reference, c.image.digest)
		if !slices.Contains(references, c.image.reference) {
			references = append(references, c.image.reference)
		}
		notes = append(notes, fmt.Sprintf("%s %s runs image %q, which %s %s of %s, licensed as %s",
			c.image.kind, c.image.name, c.image.reference, howText[c.match.How], c.match.Image, l.Spec.Licensor, l.Name))
	}
	p := podCopy{
		license: l,
		note:    strings.Join(notes, ", "),
		mark:    l.Name + "/" + markOf(parts...),
		entry: audit.Entry{
			Namespace:      pod.Namespace,
			Pod:            audit.ObjectOf(pod),
			Owner:          audit.OwnerOf(pod),
			ServiceAccount: pod.Spec.ServiceAccountName,
			Node:           pod.Spec.NodeName,
			License:        audit.ObjectOf(l),
			Images:         references,
		},
	}
	p.entry.Message = p.note
	return p
}

// howText says how an image is a copy.
var howText = map[copies.How]string{
	copies.SameDigest: "is the same as",
	copies.BuiltFrom:  "was built from",
}

// detected is the entry that says that the copy was seen, evicted the one that says that the pod was evicted for it.
func (p podCopy) detected(pod *corev1.Pod) audit.Entry {
	return p.entryOf(audit.CopyDetected, v1alpha1.ReasonCopyDetected, pod)
}

func (p podCopy) evicted(pod *corev1.Pod) audit.Entry {
	return p.entryOf(audit.CopyEvicted, v1alpha1.ReasonCopyEvicted, pod)
}

func (p podCopy) entryOf(kind audit.Type, reason v1alpha1.Reason, pod *corev1.Pod) audit.Entry {
	e := p.entry
	e.Type, e.Reason = kind, reason
	_, hash, _ := strings.Cut(p.mark, "/")
	e.ID = fmt.Sprintf("%s/%s/%s", kind, pod.UID, hash)
	return e
}

// copyStanding is what a pod's running images come to, compared with what was logged of it.
type copyStanding struct {
	copies []podCopy
	// claims are the licences that the condition names, of which it cannot be said now whether the pod runs a copy still:
	// after a restart it takes a while until a licence's images are known again.
	claims []string
	logged marks
	// condition is the pod's condition, nil where it has none.
	condition *corev1.PodCondition
	// again is when it has to be looked at again; zero where it has not.
	again time.Duration
}

// licenses are the names of the licences that the pod runs copies of, claims included.
func (s copyStanding) licenses() []string {
	names := slices.Clone(s.claims)
	for _, c := range s.copies {
		names = append(names, c.license.Name)
	}
	return names
}

func (s copyStanding) unlogged() []podCopy {
	return slices.DeleteFunc(slices.Clone(s.copies), func(c podCopy) bool { return s.logged.has(c.mark) })
}

// settled says whether all is logged and the condition says so.
func (s copyStanding) settled() bool {
	return len(s.unlogged()) == 0 && (s.condition != nil) == (len(s.licenses()) > 0)
}

// desired is the condition that the pod is to have; nil where it runs no copy.
func (s copyStanding) desired(now time.Time) *corev1.PodCondition {
	if len(s.copies) == 0 {
		if len(s.claims) > 0 {
			return s.condition
		}
		return nil
	}
	c := corev1.PodCondition{
		Type: v1alpha1.PodConditionCopy, Status: corev1.ConditionTrue, Reason: string(v1alpha1.ReasonCopyDetected),
		LastTransitionTime: metav1.NewTime(now),
	}
	var needed marks
	notes := make([]string, len(s.copies))
	for i, copied := range s.copies {
		notes[i] = copied.note
		needed = append(needed, copied.mark)
	}
	for _, mark := range s.logged {
		if license, _, ok := strings.Cut(mark, "/"); ok && slices.Contains(s.claims, license) {
			needed = append(needed, mark)
		}
	}
	c.Message = bounded(strings.Join(notes, ", ")) + marks(nil).with(needed).String()
	if s.condition != nil && s.condition.Status == c.Status {
		c.LastTransitionTime = s.condition.LastTransitionTime
	}
	return &c
}
