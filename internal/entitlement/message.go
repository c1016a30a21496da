package entitlement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/seats/count"
)

// maxShown bounds how much of a reference stands in a message, since its author chooses it.
const maxShown = 256

// Message says what was decided and why, in a sentence that names the image, the model and the licence.
func (d Decision) Message() string {
	r, l := d.Request, d.License
	image := fmt.Sprintf("image %q", clip(r.Image))
	if l != nil && d.Reason != v1alpha1.ReasonLookupFailed {
		image += fmt.Sprintf(" is model %s of %s, licensed as %s", modelName(l), l.Spec.Licensor, l.Name)
	}
	switch d.Reason {
	case v1alpha1.ReasonNotGoverned:
		return image + " is not governed by any licence"
	case v1alpha1.ReasonEntitled:
		return fmt.Sprintf("%s and granted to service account %s by ModelGrant %s/%s", image, r.account(), d.Grant.Namespace, d.Grant.Name)
	case v1alpha1.ReasonUnlicensed:
		return image + " comes from a governed repository, but no ModelLicense covers it"
	case v1alpha1.ReasonUnparsableImage:
		return image + " is not a valid image reference"
	case v1alpha1.ReasonImageID:
		return image + " names an image by its ID on the node, which hides whose it is"
	case v1alpha1.ReasonNamespaceNotAllowed:
		return fmt.Sprintf("%s, which does not name namespace %s", image, r.Namespace)
	case v1alpha1.ReasonSuspended:
		return image + ", which is suspended"
	case v1alpha1.ReasonNotYetValid:
		return fmt.Sprintf("%s, which holds only from %s", image, timeOf(l.Spec.Terms.NotBefore))
	case v1alpha1.ReasonExpired:
		return fmt.Sprintf("%s, which ended at %s", image, moment(licensePeriod(l).graceEnd()))
	case v1alpha1.ReasonInGrace:
		if g := d.Grant; g != nil {
			return fmt.Sprintf("%s, but ModelGrant %s/%s ended at %s, and until %s only pods that run go on", image, g.Namespace, g.Name, timeOf(g.Spec.NotAfter), moment(grantPeriod(g).graceEnd()))
		}
		return fmt.Sprintf("%s, which ended at %s, and until %s only pods that run go on", image, timeOf(l.Spec.Terms.NotAfter), moment(licensePeriod(l).graceEnd()))
	case v1alpha1.ReasonNoGrant:
		return fmt.Sprintf("%s, but namespace %s has no ModelGrant of it", image, r.Namespace)
	case v1alpha1.ReasonSubjectNotGranted:
		return fmt.Sprintf("%s, but no ModelGrant of it in namespace %s names service account %s", image, r.Namespace, r.account())
	case v1alpha1.ReasonPodNotSelected:
		return fmt.Sprintf("%s, but the podSelector of ModelGrant %s/%s does not select this pod", image, d.Grant.Namespace, d.Grant.Name)
	case v1alpha1.ReasonActionNotLicensed:
		return fmt.Sprintf("%s, but ModelGrant %s/%s is for action %s, which the licence does not allow", image, d.Grant.Namespace, d.Grant.Name, d.Grant.Spec.Action)
	case v1alpha1.ReasonPurposeNotLicensed:
		return fmt.Sprintf("%s, but ModelGrant %s/%s is for purpose %s, which the licence does not allow", image, d.Grant.Namespace, d.Grant.Name, d.Grant.Spec.Purpose)
	case v1alpha1.ReasonGrantNotYetValid:
		return fmt.Sprintf("%s, but ModelGrant %s/%s counts only from %s", image, d.Grant.Namespace, d.Grant.Name, timeOf(d.Grant.Spec.NotBefore))
	case v1alpha1.ReasonGrantExpired:
		return fmt.Sprintf("%s, but ModelGrant %s/%s ended at %s", image, d.Grant.Namespace, d.Grant.Name, moment(grantPeriod(d.Grant).graceEnd()))
	case v1alpha1.ReasonUncountableDevice:
		return fmt.Sprintf("%s, whose limits cannot count %s that this pod asks for", image, clip(d.uncountable()))
	case v1alpha1.ReasonNodeSelectorConflict:
		key, want, got := d.nodeConflict()
		return fmt.Sprintf("%s, which is for nodes with the label %s=%s, but the pod's nodeSelector wants %s", image, key, want, clip(got))
	case v1alpha1.ReasonInvalidSelector:
		return image + ", but a label selector of the licence or of its grant cannot be parsed"
	case v1alpha1.ReasonDigestNotLicensed:
		return image + ", which does not list this digest"
	case v1alpha1.ReasonDigestNotPinned:
		return image + ", which takes images by digest alone, and this reference has none"
	case v1alpha1.ReasonTooManyReferences:
		return "the pod's commands, arguments and variables name more images than are looked at"
	case v1alpha1.ReasonModelNotReferenced:
		return fmt.Sprintf("%s is none of licence %s", image, r.License)
	case v1alpha1.ReasonLookupFailed:
		return image + " cannot be decided now: licences and grants could not be read"
	default:
		return fmt.Sprintf("%s: %s", image, d.Reason)
	}
}

// Remedy says what to do about a refusal, and whom to ask for it. It is empty where there is nothing to do.
func (d Decision) Remedy() string {
	r, l := d.Request, d.License
	switch d.Reason {
	case v1alpha1.ReasonUnlicensed:
		return "ask your platform team for a ModelLicense that covers this repository (kubectl get mlic), or use an image that is licensed"
	case v1alpha1.ReasonUnparsableImage:
		return "correct the image reference: HOST/PATH:TAG or HOST/PATH@sha256:DIGEST"
	case v1alpha1.ReasonImageID:
		return "name the image by its repository: HOST/PATH:TAG or HOST/PATH@sha256:DIGEST"
	case v1alpha1.ReasonNamespaceNotAllowed:
		return fmt.Sprintf("deploy to a namespace that the licence names, or ask whoever manages ModelLicense %s to add %s to spec.allowedNamespaces (%s)", l.Name, r.Namespace, allowedNamespaces(l))
	case v1alpha1.ReasonSuspended:
		return fmt.Sprintf("ask whoever manages ModelLicense %s why, and to remove spec.suspended", l.Name)
	case v1alpha1.ReasonNotYetValid:
		return "wait until then, or ask " + l.Spec.Licensor + " for an earlier start"
	case v1alpha1.ReasonInGrace:
		if g := d.Grant; g != nil {
			return fmt.Sprintf("ask someone who may %q on modellicenses/%s for a later spec.notAfter of the grant", v1alpha1.GrantVerb, l.Name)
		}
		return "ask " + l.Spec.Licensor + " to renew the licence, or for terms.graceAdmits: All"
	case v1alpha1.ReasonGrantNotYetValid:
		return fmt.Sprintf("wait until then, or ask someone who may %q on modellicenses/%s for an earlier spec.notBefore of the grant", v1alpha1.GrantVerb, l.Name)
	case v1alpha1.ReasonGrantExpired:
		return fmt.Sprintf("ask someone who may %q on modellicenses/%s for a later spec.notAfter of the grant", v1alpha1.GrantVerb, l.Name)
	case v1alpha1.ReasonUncountableDevice:
		return fmt.Sprintf("request devices by a name that the limits list (kubectl get mlic %s -o yaml), or ask %s to list this one in terms.limits", l.Name, l.Spec.Licensor)
	case v1alpha1.ReasonNodeSelectorConflict:
		key, _, _ := d.nodeConflict()
		return fmt.Sprintf("remove %s from the pod's nodeSelector; the licence's label is added by itself", key)
	case v1alpha1.ReasonExpired:
		return "ask " + l.Spec.Licensor + " to renew the licence"
	case v1alpha1.ReasonNoGrant, v1alpha1.ReasonSubjectNotGranted:
		return fmt.Sprintf("ask someone who may %q on modellicenses/%s for a ModelGrant in namespace %s with licenseName %s and subject ServiceAccount %s", v1alpha1.GrantVerb, l.Name, r.Namespace, l.Name, r.account())
	case v1alpha1.ReasonPodNotSelected:
		return fmt.Sprintf("give the pod the labels that ModelGrant %s/%s selects (kubectl -n %s get mgrant %s -o yaml), or ask for a grant that selects it", d.Grant.Namespace, d.Grant.Name, d.Grant.Namespace, d.Grant.Name)
	case v1alpha1.ReasonActionNotLicensed:
		return fmt.Sprintf("ask for a grant of a licensed action (%s), or ask %s to license %s", join(l.Spec.Terms.Actions), l.Spec.Licensor, d.Grant.Spec.Action)
	case v1alpha1.ReasonPurposeNotLicensed:
		return fmt.Sprintf("ask for a grant of a licensed purpose (%s), or ask %s to license %s", join(l.Spec.Terms.Purposes), l.Spec.Licensor, d.Grant.Spec.Purpose)
	case v1alpha1.ReasonInvalidSelector:
		return fmt.Sprintf("ask whoever manages ModelLicense %s to correct the selector; its status and that of its grants say which", l.Name)
	case v1alpha1.ReasonDigestNotLicensed:
		return fmt.Sprintf("use a licensed digest (kubectl get mlic %s -o yaml), or ask %s to license this one", l.Name, l.Spec.Licensor)
	case v1alpha1.ReasonDigestNotPinned:
		if d.Pinned != "" {
			return fmt.Sprintf("write %q; only the images of new pods, and not those of ephemeral containers, are completed by themselves", clip(d.Pinned))
		}
		return fmt.Sprintf("write the digest behind the tag, HOST/PATH:TAG@sha256:DIGEST; that of this tag is not known or not licensed (kubectl get mlic %s -o yaml shows status.images)", l.Name)
	case v1alpha1.ReasonTooManyReferences:
		return "keep long lists and texts in a ConfigMap that the container mounts"
	case v1alpha1.ReasonModelNotReferenced:
		return fmt.Sprintf("mount the key only where an image of licence %s is used", r.License)
	case v1alpha1.ReasonLookupFailed:
		return "try again; if it persists, ask your platform team to look at the modelrights operator"
	default:
		return ""
	}
}

// Message is the decision's message; of an image that was inferred it says so.
func (d UseDecision) Message() string {
	if d.Confidence != images.Inferred || d.Excess {
		return d.Decision.Message()
	}
	return fmt.Sprintf("%s (inferred from the text of the %s)", d.Decision.Message(), d.Kind)
}

// Remedy is the decision's remedy; for an image that was inferred, also what to do if the guess is wrong.
func (d UseDecision) Remedy() string {
	remedy := d.Decision.Remedy()
	if remedy == "" || d.Confidence != images.Inferred || d.Excess {
		return remedy
	}
	return fmt.Sprintf("%s; if the container does not use this image, take its URI out of the %s", remedy, d.Kind)
}

// uncountable is what the limits of the licence, or else of the grant, cannot count in the pod.
func (d Decision) uncountable() string {
	what, found := count.Uncountable(d.Request.Spec, d.License.Spec.Terms.Limits)
	if !found && d.Grant != nil {
		what, _ = count.Uncountable(d.Request.Spec, d.Grant.Spec.Limits)
	}
	return what
}

// nodeConflict is the first label by name for which the pod selects another value than the licence.
func (d Decision) nodeConflict() (key, want, got string) {
	terms := d.License.Spec.Terms.NodeSelector
	for _, key := range slices.Sorted(maps.Keys(terms)) {
		if got, set := d.Request.Spec.NodeSelector[key]; set && got != string(terms[key]) {
			return key, string(terms[key]), got
		}
	}
	return "", "", ""
}

func timeOf(t *metav1.Time) string { return moment(t.Time) }

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (r Request) account() string {
	if r.ServiceAccount == "" {
		return "default"
	}
	return r.ServiceAccount
}

func modelName(l *v1alpha1.ModelLicense) string {
	return strings.TrimSpace(l.Spec.Model.Name + " " + l.Spec.Model.Version)
}

func allowedNamespaces(l *v1alpha1.ModelLicense) string {
	names := l.Spec.AllowedNamespaces.Names
	switch {
	case l.Spec.AllowedNamespaces.Selector != nil:
		return "it names namespaces by label"
	case len(names) > 5:
		return fmt.Sprintf("it names %s and %d more", strings.Join(names[:5], ", "), len(names)-5)
	default:
		return "it names " + strings.Join(names, ", ")
	}
}

func join[S ~string](values []S) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = string(v)
	}
	return strings.Join(parts, ", ")
}

func clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}
