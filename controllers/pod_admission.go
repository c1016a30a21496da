package controllers

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

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
	a := admission{
		use:  use,
		note: fmt.Sprintf("licence %s of %s by grant %s", use.License.Name, use.License.Spec.Licensor, use.Grant.Name),
		mark: markOf(string(use.License.UID), strings.Join(use.Images, "\n")),
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
