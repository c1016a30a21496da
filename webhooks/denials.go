package webhooks

import (
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Denials takes notice of denials, for the audit log and for Events. Denied is called while the API server waits, so it
// must not block.
type Denials interface {
	Denied(Denial)
}

// Denial is a pod that was denied, in whole or in an update.
type Denial struct {
	// Time is when it was decided.
	Time time.Time
	// Namespace is the pod's. PodName may be empty on creation; GenerateName is set then. PodUID is empty on creation,
	// since the pod never came to be.
	Namespace, PodName, GenerateName, PodUID string
	// Owner is the pod's controller, as the pod names it; nil where there is none. Nobody has verified it.
	Owner *metav1.OwnerReference
	// ServiceAccount is the account that the pod runs as.
	ServiceAccount string
	// User is who asked: for pods of a workload, its controller.
	User string
	// Operation is CREATE or UPDATE; Subresource is empty for the pod itself.
	Operation, Subresource string
	// Uses are why, 1 to 16, those of equal reason, image and licence once; Omitted is how many more there were.
	Uses    []DeniedUse
	Omitted int
	// Message is what the user was told, at most 2 KiB.
	Message string
}

// DeniedUse is one reason why a pod was denied.
type DeniedUse struct {
	// Field is the path of the field that is spoken of.
	Field string
	// Image is the reference that is spoken of; empty where a volume alone is.
	Image string
	// Reason is why.
	Reason v1alpha1.Reason
	// Message says so in a sentence.
	Message string
	// LicenseName is the licence that is spoken of; may be empty, or the name of none that exists.
	LicenseName string
	// License and Grant are those that came closest; nil where there was none.
	License *v1alpha1.ModelLicense
	Grant   *v1alpha1.ModelGrant
}

func denialOf(req *admission.Request, pod *corev1.Pod, refused []refusal, message string, now time.Time) Denial {
	d := Denial{
		Time: now, Namespace: req.Namespace, PodName: req.Name, GenerateName: pod.GenerateName,
		Owner: metav1.GetControllerOf(pod), ServiceAccount: pod.Spec.ServiceAccountName, User: req.UserInfo.Username,
		Operation: string(req.Operation), Subresource: req.SubResource, Message: message,
	}
	if d.PodName == "" {
		d.PodName = pod.Name
	}
	if req.Operation == admissionv1.Update {
		d.PodUID = string(pod.UID)
	}
	if d.ServiceAccount == "" {
		d.ServiceAccount = "default"
	}
	type kind struct {
		reason         v1alpha1.Reason
		image, license string
	}
	seen := map[kind]bool{}
	for _, r := range refused {
		k := kind{r.Reason, r.Image, r.LicenseName}
		switch {
		case seen[k]:
		case len(d.Uses) == maxCauses:
			d.Omitted++
		default:
			d.Uses = append(d.Uses, r.DeniedUse)
		}
		seen[k] = true
	}
	return d
}
