package keyservice

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// checkPod: the pod exists as its token says, runs on the caller's node, is not on its way out, and has a volume of
// ours that names the licence.
func (r *Releaser) checkPod(_ context.Context, c *call) *protocol.Error {
	v := &c.request.Volume
	pod, err := c.ahead.pod()
	if err != nil && !apierrors.IsNotFound(err) {
		return lookupFailed("the pod", err)
	}
	if err != nil || string(pod.UID) != v.PodUID {
		return refuse(v1alpha1.ReasonPodGone, remedyGone, "pod %s/%s with UID %s does not exist any more", v.PodNamespace, v.PodName, v.PodUID)
	}
	c.pod = pod
	switch {
	case pod.DeletionTimestamp != nil:
		return refuse(v1alpha1.ReasonPodGone, remedyGone, "pod %s/%s is being deleted", pod.Namespace, pod.Name)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return refuse(v1alpha1.ReasonPodGone, remedyGone, "pod %s/%s has ended (%s)", pod.Namespace, pod.Name, pod.Status.Phase)
	case pod.Spec.NodeName != c.driver.node:
		return refuse(v1alpha1.ReasonPodMismatch, remedyDriver, "pod %s/%s runs on another node than the caller's", pod.Namespace, pod.Name)
	case pod.Spec.ServiceAccountName != c.podHolder.account:
		return refuse(v1alpha1.ReasonPodMismatch, remedyPodToken, "the pod's token is of another service account than the pod's")
	case !slices.Contains(entitlement.HeldLicenses(&pod.Spec), v.License) || v.License == "":
		return refuse(v1alpha1.ReasonPodMismatch, "leave the volume to the admission webhook, which adds it where it is needed",
			"pod %s/%s has no volume of driver %s for licence %q", pod.Namespace, pod.Name, v1alpha1.CSIDriverName, v.License)
	}
	return nil
}

const remedyGone = "nothing is to be done: a pod that has ended, or is about to, gets no key"

// checkEntitled: as the pod is now, it references an image of the licence where the key may be used, a grant entitles
// it, and nothing but the containers that use the licence mounts the key.
func (r *Releaser) checkEntitled(_ context.Context, c *call) *protocol.Error {
	snapshot, namespaceLabels, refusal := c.ahead.rights(c.request.Volume.License)
	if refusal != nil {
		return refusal
	}
	c.use, refusal = entitled(c.pod, namespaceLabels, c.request.Volume.License, snapshot, r.Clock.Now())
	if refusal != nil || r.Later == nil {
		return refusal
	}
	if later, suspected := r.Later(); suspected {
		_, refusal = entitled(c.pod, namespaceLabels, c.request.Volume.License, snapshot, later)
	}
	return refusal
}

// entitled says what a pod may use of a licence. It holds its seat, or is refused for that: grace periods are for it.
func entitled(p *corev1.Pod, namespaceLabels map[string]string, license string, snapshot *entitlement.Snapshot, now time.Time) (entitlement.LicenseUse, *protocol.Error) {
	var none entitlement.LicenseUse
	pod := entitlement.Pod{Namespace: p.Namespace, NamespaceLabels: namespaceLabels, Labels: p.Labels, Spec: &p.Spec, Held: true}
	// Volumes of other licences are decided when their keys are asked for: a live snapshot may know this licence alone.
	for _, refusal := range entitlement.DecideKeyVolumes(pod, snapshot, now) {
		if refusal.License == license {
			return none, refuseVolume(refusal)
		}
	}
	decided := entitlement.DecidePodFor(pod, license, snapshot, now)
	if refused := decided.Refused(); len(refused) > 0 {
		return none, refuseDecision(refused[0].Decision)
	}
	licenses := decided.Licenses()
	if len(licenses) != 1 || len(licenses[0].Containers) == 0 {
		return none, refuse(v1alpha1.ReasonModelNotReferenced,
			"run the licensed image in a container of the pod, or mount it there as an image volume",
			"no container of pod %s/%s uses an image of licence %s", p.Namespace, p.Name, license)
	}
	return licenses[0], nil
}

// rights are all that bears on one licence in the pod's namespace.
func (a *ahead) rights(licenseName string) (*entitlement.Snapshot, map[string]string, *protocol.Error) {
	namespace, err := a.namespace()
	if err != nil {
		return nil, nil, lookupFailed("the pod's namespace", err)
	}
	changes := entitlement.Changes{
		Licenses: map[string]*v1alpha1.ModelLicense{},
		Grants:   map[entitlement.GrantKey]*v1alpha1.ModelGrant{},
	}
	license, err := a.license()
	if client.IgnoreNotFound(err) != nil {
		return nil, nil, lookupFailed("the licence", err)
	}
	if err == nil {
		changes.Licenses[licenseName] = license
	}
	grants, err := a.grants()
	if err != nil {
		return nil, nil, lookupFailed("the namespace's grants", err)
	}
	for i := range grants.Items {
		if g := &grants.Items[i]; g.Spec.LicenseName == licenseName {
			changes.Grants[entitlement.GrantKey{Namespace: g.Namespace, Name: g.Name}] = g
		}
	}
	none, err := entitlement.New(nil)
	if err != nil {
		return nil, nil, lookupFailed("the licence", err)
	}
	return none.Apply(changes), namespace.Labels, nil
}
