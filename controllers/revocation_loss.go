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
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/seats"
)

// loss is a licence that a pod holds a seat of and is not entitled to any more.
type loss struct {
	name string
	// license is its last known state; nil where it is gone and was never seen: terms are what its ledger keeps. Grant came
	// closest; it may be nil.
	license *v1alpha1.ModelLicense
	grant   *v1alpha1.ModelGrant
	holder  seats.Holder
	terms   seats.Terms
	reason  v1alpha1.Reason
	// message says what is wrong, remedy what to do about it.
	message, remedy string
	// images are what the pod uses of the licence, as far as that can still be told.
	images []string
}

// rightsFacts are what it is decided by whether a pod has lost a licence.
type rightsFacts struct {
	snapshot        *entitlement.Snapshot
	namespaceLabels map[string]string
	// nodeLabels are those of the pod's node. It is only asked where a licence asks for labels; false: the node is not known,
	// and nothing is held against the pod.
	nodeLabels func() (map[string]string, bool)
	// last is the last known state of a licence, which may be gone; nil where there is none.
	last func(license string) *v1alpha1.ModelLicense
	now  time.Time
}

// lossesOf lists which of its seats a pod has lost the right to, in the order of the licences' names.
func lossesOf(pod *corev1.Pod, held []heldSeat, f rightsFacts) []loss {
	subject := f.subject(pod)
	var lost []loss
	for _, seat := range held {
		if l := lossOf(subject, seat, f); l != nil {
			lost = append(lost, *l)
		}
	}
	return lost
}

// subject is a pod that has its seats, or had them.
func (f rightsFacts) subject(pod *corev1.Pod) entitlement.Pod {
	return entitlement.Pod{
		Namespace: pod.Namespace, NamespaceLabels: f.namespaceLabels, Labels: pod.Labels, Spec: &pod.Spec, Held: true,
	}
}

// entitledNotes says under which licences a pod runs; there are none unless it is entitled to all that it uses.
func (f rightsFacts) entitledNotes(pod *corev1.Pod) []string {
	decided := entitlement.DecidePod(f.subject(pod), f.snapshot, f.now)
	if len(decided.Refused()) > 0 {
		return nil
	}
	var notes []string
	for _, use := range decided.Licenses() {
		notes = append(notes, restoredNote(use.License.Name, use.Grant.Name))
	}
	return notes
}

// lossOf asks what a renewal of the lease asks, too; nil where the pod is entitled.
func lossOf(subject entitlement.Pod, seat heldSeat, f rightsFacts) *loss {
	l := &loss{name: seat.license, license: f.snapshot.License(seat.license), holder: seat.holder, terms: seat.terms}
	if l.license == nil {
		l.license = f.last(seat.license)
		l.reason, l.message = v1alpha1.ReasonLicenseMissing, fmt.Sprintf("ModelLicense %s does not exist any more", seat.license)
		l.remedy = "ask your platform team why it was deleted"
		return l
	}
	decided := entitlement.DecidePodFor(subject, seat.license, f.snapshot, f.now)
	for _, use := range decided {
		if use.Image != "" && !slices.Contains(l.images, use.Image) {
			l.images = append(l.images, use.Image)
		}
	}
	if refused := decided.Refused(); len(refused) > 0 {
		first := refused[0]
		l.grant, l.reason, l.message, l.remedy = first.Grant, first.Reason, first.Message(), first.Remedy()
		return l
	}
	uses := decided.Licenses()
	if len(uses) == 0 {
		l.reason, l.message = v1alpha1.ReasonModelNotReferenced, fmt.Sprintf("ModelLicense %s covers none of the pod's images any more", seat.license)
		l.remedy = fmt.Sprintf("ask %s which images the licence is for", l.license.Spec.Licensor)
		return l
	}
	l.grant = uses[0].Grant
	if len(l.license.Spec.Terms.NodeSelector) > 0 && subject.Spec.NodeName != "" {
		if labels, known := f.nodeLabels(); known {
			if refusal := entitlement.DecideNode(uses[0], labels); refusal != nil {
				l.reason, l.message, l.remedy = refusal.Reason, refusal.Message, refusal.Remedy
				return l
			}
		}
	}
	if isSurgeOver(seat.holder, f.now) {
		l.reason, l.message = v1alpha1.ReasonSurgeEnded, fmt.Sprintf("the pod held a seat of ModelLicense %s beyond its limits until %s, and there is no room for it",
			seat.license, rfc3339(seat.holder.SurgeUntil))
		l.remedy = "end other pods of the workload sooner"
		return l
	}
	return nil
}

// evicts says whether the pod is ended for the loss. What a licence says that is there, or was seen, counts; for one that
// was deleted while no operator ran, what its ledger keeps.
func (l loss) evicts() bool {
	if l.license == nil {
		return l.terms.Evicts()
	}
	return seats.TermsOf(l.license).Evicts()
}

// onNode says whether the pod has a key of the licence on its node, or may get it there.
func (l loss) onNode(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && slices.Contains(entitlement.HeldLicenses(&pod.Spec), l.name)
}

// note says what was lost, and why.
func (l loss) note() string {
	note := fmt.Sprintf("licence %s [%s]: %s", l.name, l.reason, l.message)
	if l.remedy != "" {
		note += "; " + l.remedy
	}
	return note
}

// mark stands for the loss in the pod's condition while that says Revoked; where it is there, the entry is in the log.
func (l loss) mark() string { return revokedMark + markOf("revoked", l.name) }

// revokedMark begins the marks of losses.
const revokedMark = "revoked/"

// revoked is the entry that says that the pod lost the licence, ended the one that says that it was ended for it. Their IDs
// are the same where an operator was killed before it could write on the pod that it had logged them, and others when the
// pod loses the licence again later.
func (l loss) revoked(pod *corev1.Pod) audit.Entry {
	e := l.entry(audit.Revoked, pod)
	e.Message = l.message
	return e
}

func (l loss) ended(pod *corev1.Pod, how endedBy) audit.Entry {
	e := l.entry(audit.RevokedPodEnded, pod)
	e.Message = string(how)
	return e
}

func (l loss) entry(kind audit.Type, pod *corev1.Pod) audit.Entry {
	e := audit.Entry{
		Type:           kind,
		Namespace:      pod.Namespace,
		Pod:            audit.ObjectOf(pod),
		Owner:          audit.OwnerOf(pod),
		ServiceAccount: pod.Spec.ServiceAccountName,
		Node:           pod.Spec.NodeName,
		License:        audit.Object{Name: l.name},
		Images:         l.images,
		Reason:         l.reason,
	}
	if l.license != nil {
		e.License = audit.ObjectOf(l.license)
	}
	if l.grant != nil {
		e.Grant = audit.ObjectOf(l.grant)
	} else {
		e.Grant = audit.Object{Name: l.holder.Grant.Name, UID: string(l.holder.Grant.UID)}
	}
	e.ID = fmt.Sprintf("%s/%s/%s", kind, pod.UID, markOf(l.name, e.License.UID, string(l.reason),
		fmt.Sprint(e.License.Generation, e.Grant.Generation), e.Grant.UID, entitledSince(pod)))
	return e
}

// entitledSince is since when a pod's condition says what it says, while that is not that it was revoked.
func entitledSince(pod *corev1.Pod) string {
	if c := conditionOf(pod, v1alpha1.PodConditionLicensed); c != nil && !isRevoked(c) {
		return rfc3339(c.LastTransitionTime.Time)
	}
	return ""
}

// isRevoked says whether a condition says that the pod lost its entitlement.
func isRevoked(c *corev1.PodCondition) bool {
	return c != nil && c.Status == corev1.ConditionFalse && c.Reason == string(v1alpha1.ReasonRevoked)
}

// unlogged is what of the losses is not in the log. Marks count only while the condition says Revoked: what was lost before
// and given back may be lost again.
func unlogged(pod *corev1.Pod, lost []loss) []loss {
	if !isRevoked(conditionOf(pod, v1alpha1.PodConditionLicensed)) {
		return lost
	}
	logged := marksOf(pod, v1alpha1.PodConditionLicensed)
	return slices.DeleteFunc(slices.Clone(lost), func(l loss) bool { return logged.has(l.mark()) })
}

// revokedCondition is the condition of a pod that lost licences. It keeps the marks of all else that was logged.
func revokedCondition(pod *corev1.Pod, lost []loss, now time.Time) *corev1.PodCondition {
	var notes []string
	needed := keptMarks(pod)
	for _, l := range lost {
		notes = append(notes, "lost "+l.note())
		needed = append(needed, l.mark())
	}
	return licensedCondition(pod, corev1.ConditionFalse, v1alpha1.ReasonRevoked, notes, needed, now)
}

// restoredCondition is the condition of a pod that has back all that it lost.
func restoredCondition(pod *corev1.Pod, notes []string, now time.Time) *corev1.PodCondition {
	return licensedCondition(pod, corev1.ConditionTrue, v1alpha1.ReasonEntitled, notes, keptMarks(pod), now)
}

func restoredNote(license, grant string) string {
	return fmt.Sprintf("licence %s by grant %s, after it was lost for a while", license, grant)
}

// notesOf says under which licences a pod runs.
func notesOf(held []heldSeat) []string {
	notes := make([]string, len(held))
	for i, seat := range held {
		notes[i] = restoredNote(seat.license, seat.holder.Grant.Name)
	}
	return notes
}

// keptMarks are the marks of a pod but for those of losses.
func keptMarks(pod *corev1.Pod) marks {
	return slices.DeleteFunc(slices.Clone(marksOf(pod, v1alpha1.PodConditionLicensed)), func(mark string) bool {
		return strings.HasPrefix(mark, revokedMark)
	})
}

func licensedCondition(pod *corev1.Pod, status corev1.ConditionStatus, reason v1alpha1.Reason, notes []string, needed marks, now time.Time) *corev1.PodCondition {
	c := &corev1.PodCondition{
		Type: v1alpha1.PodConditionLicensed, Status: status, Reason: string(reason), LastTransitionTime: metav1.NewTime(now),
		Message: bounded(strings.Join(notes, ", ")) + marks(nil).with(needed).String(),
	}
	if before := conditionOf(pod, v1alpha1.PodConditionLicensed); before != nil && before.Status == status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return c
}
