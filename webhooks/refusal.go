package webhooks

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
)

const (
	// maxMessage bounds the message of a denial, in bytes.
	maxMessage = 2048
	// maxListed bounds the refusals that the message lists, maxCauses those in the status's details and in a Denial.
	maxListed = 5
	maxCauses = 16
	// maxCause bounds the message of one refusal, maxName a name in it, in bytes.
	maxCause = 1024
	maxName  = 63
)

// deny answers a request with the verdict's refusals, and tells of them unless it is a dry run.
func (d *decider) deny(webhook string, req *admission.Request, pod *corev1.Pod, v verdict) admission.Response {
	refused := refusalsOf(v.intolerable())
	message := denialMessage(refused)
	d.metrics.decided(webhook, string(req.Operation), "denied", string(refused[0].Reason))
	if !ptr.Deref(req.DryRun, false) {
		d.denials.Denied(denialOf(req, pod, refused, message, d.clock.Now()))
	}
	status := &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: message,
		Details: &metav1.StatusDetails{Kind: "pods", Name: req.Name},
	}
	for _, r := range refused[:min(len(refused), maxCauses)] {
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{
			Type: metav1.CauseType(r.Reason), Field: r.Field, Message: clip(r.Message+remedy(r.remedy), maxCause),
		})
	}
	response := admission.Denied("")
	response.Result = status
	return response
}

// refusal is one reason why a pod is denied, in words.
type refusal struct {
	DeniedUse
	// place is what the message calls the field.
	place  string
	remedy string
	// tolerated says that it denies nothing; mode is how strictly admission deals with the image, and empty where no image
	// is spoken of.
	tolerated bool
	mode      v1alpha1.EnforcementMode
}

func refusalsOf(v verdict) []refusal {
	var all []refusal
	for _, u := range v.uses.Refused() {
		r := refusal{DeniedUse: DeniedUse{Field: u.Field, Image: u.Image, Reason: u.Reason, Message: u.Message(), License: u.License, Grant: u.Grant}}
		if u.License != nil {
			r.LicenseName = u.License.Name
		}
		r.place = placeOf(u.Use)
		r.remedy, r.mode, r.tolerated = u.Remedy(), u.Enforcement, u.Tolerated
		all = append(all, r)
	}
	for _, f := range v.refusals {
		all = append(all, refusalOf(f))
	}
	return all
}

// placeOf is what messages call the place of an image.
func placeOf(u images.Use) string {
	switch u.Kind {
	case images.UseArgument, images.UseCommand, images.UseEnvironmentVariable:
		return fmt.Sprintf("%s of container %q (%s)", u.Kind, clip(u.Name, maxName), u.Field)
	default:
		return fmt.Sprintf("%s %q (%s)", u.Kind, clip(u.Name, maxName), u.Field)
	}
}

func refusalOf(f entitlement.Refusal) refusal {
	return refusal{
		DeniedUse: DeniedUse{Field: f.Field, Image: f.Image, LicenseName: f.License, Reason: f.Reason, Message: f.Message},
		place:     f.Field, remedy: f.Remedy, tolerated: f.Tolerated,
	}
}

// denialMessage lists refusals for a human: modelrights: pod denied [CODE,…]: where: what; what to do. The part up to
// the first colon after the codes is stable. Refusals that differ in place alone are told once.
func denialMessage(refused []refusal) string {
	var codes, items []string
	told := map[string]int{}
	var places [][]string
	for _, r := range refused {
		if !slices.Contains(codes, string(r.Reason)) {
			codes = append(codes, string(r.Reason))
		}
		text := clip(r.Message+remedy(r.remedy), maxCause)
		i, known := told[text]
		if !known {
			i = len(items)
			told[text] = i
			items, places = append(items, text), append(places, nil)
		}
		places[i] = append(places[i], r.place)
	}

	var b strings.Builder
	fmt.Fprintf(&b, "modelrights: pod denied [%s]: ", strings.Join(codes, ","))
	const room = len("; and 1000000 more")
	for i, text := range items {
		item := joinPlaces(places[i]) + ": " + text
		if len(items) > 1 {
			item = fmt.Sprintf("(%d) %s", i+1, item)
		}
		if i > 0 {
			item = "; " + item
		}
		if i > 0 && (i == maxListed || b.Len()+len(item)+room > maxMessage) {
			fmt.Fprintf(&b, "; and %d more", len(items)-i)
			break
		}
		b.WriteString(clip(item, maxMessage-room-b.Len()))
	}
	return b.String()
}

func joinPlaces(places []string) string {
	if len(places) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(places[:3], ", "), len(places)-3)
	}
	return strings.Join(places, ", ")
}

func remedy(text string) string {
	if text == "" {
		return ""
	}
	return "; " + text
}

// clip shortens to a number of bytes, which holds the ellipsis too, and never within a character.
func clip(s string, bytes int) string {
	const ellipsis = "…"
	if len(s) <= bytes {
		return s
	}
	return strings.ToValidUTF8(s[:max(0, bytes-len(ellipsis))], "") + ellipsis
}
