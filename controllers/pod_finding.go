package controllers

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/entitlement"
)

// finding is what a stored pod uses of one licence, or of governed repositories without one, and is not entitled to.
type finding struct {
	// license and grant are those that came closest; nil where none covers the images, or entitles.
	license *v1alpha1.ModelLicense
	grant   *v1alpha1.ModelGrant
	reason  v1alpha1.Reason
	// note says what is wrong, with the reason in brackets, and what to do about it.
	note  string
	entry audit.Entry
	// mark stands for licence and images in the pod's condition; where it is there, the entry is in the log.
	mark string
	// tolerated says that admission lets such pods pass, warned that it warns of them.
	tolerated, warned bool
}

// findingsOf groups the refused uses of a pod by licence, in the order of the uses. The reason and the words are those of
// the first use of each.
func findingsOf(pod *corev1.Pod, refused entitlement.PodDecision) []finding {
	type group struct {
		first  entitlement.UseDecision
		images []string
	}
	var groups []*group
	for _, use := range refused {
		i := slices.IndexFunc(groups, func(g *group) bool {
			return g.first.License == use.License && g.first.Tolerated == use.Tolerated
		})
		if i < 0 {
			groups, i = append(groups, &group{first: use}), len(groups)
		}
		if use.Image != "" && !slices.Contains(groups[i].images, use.Image) {
			groups[i].images = append(groups[i].images, use.Image)
		}
	}
	found := make([]finding, len(groups))
	for i, g := range groups {
		found[i] = findingOf(pod, g.first, g.images)
	}
	return found
}

func findingOf(pod *corev1.Pod, first entitlement.UseDecision, images []string) finding {
	f := finding{
		license: first.License, grant: first.Grant, reason: first.Reason,
		tolerated: first.Tolerated, warned: first.Tolerated && first.Enforcement == v1alpha1.EnforcementWarn,
		note: fmt.Sprintf("[%s]: %s", first.Reason, first.Message()),
		entry: audit.Entry{
			Type:           audit.Found,
			Namespace:      pod.Namespace,
			Pod:            audit.ObjectOf(pod),
			Owner:          audit.OwnerOf(pod),
			ServiceAccount: pod.Spec.ServiceAccountName,
			Node:           pod.Spec.NodeName,
			Images:         images,
			Reason:         first.Reason,
			Message:        first.Message(),
		},
	}
	if remedy := first.Remedy(); remedy != "" {
		f.note += "; " + remedy
	}
	uid := ""
	if first.License != nil {
		f.entry.License, uid = audit.ObjectOf(first.License), string(first.License.UID)
	}
	if first.Grant != nil {
		f.entry.Grant = audit.ObjectOf(first.Grant)
	}
	kind := "found"
	if f.tolerated {
		kind = "tolerated"
		f.entry.Message = fmt.Sprintf("tolerated, since enforcement is %s: %s", first.Enforcement, f.entry.Message)
		f.note += fmt.Sprintf("; it is tolerated as long as enforcement is %s", first.Enforcement)
	}
	f.mark = markOf(kind, uid, strings.Join(images, "\n"))
	f.entry.ID = fmt.Sprintf("%s/%s/%s", audit.Found, pod.UID, f.mark)
	return f
}
