package keyservice

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// renewLive decides by what the API server has now: before a key is wiped, and where the operator called kubelet's
// attention to the pod, since then the cache here may be behind that of the replica which did. Where nobody did, a pod's
// other changes make kubelet come early too, and what the cache said stands.
func (r *Releaser) renewLive(ctx context.Context, c *renewal, cached protocol.RenewResponse) (protocol.RenewResponse, *protocol.Error) {
	v := &c.request.Volume
	unknown := func(what string) protocol.RenewResponse {
		return keep(v1alpha1.ReasonLookupFailed, what+" cannot be read from the API server")
	}
	var pod corev1.Pod
	err := r.Reader.Get(ctx, types.NamespacedName{Namespace: v.PodNamespace, Name: v.PodName}, &pod)
	if err != nil && !apierrors.IsNotFound(err) {
		return unknown("the pod"), nil
	}
	if err != nil || string(pod.UID) != v.PodUID {
		return keep(v1alpha1.ReasonLeaseEnding, "the pod does not exist any more"), nil
	}
	if cached.Verdict != protocol.Wipe && pod.Annotations[v1alpha1.AnnotationAttention] == "" && !saysRevoked(&pod) {
		return cached, nil
	}
	snapshot, err := r.Rights.Live(ctx, v.PodNamespace)
	if err != nil {
		return unknown("the licences and grants"), nil
	}
	labels, err := r.Rights.NamespaceLabels(ctx, v.PodNamespace, true)
	if err != nil {
		return unknown("the pod's namespace"), nil
	}
	return r.decideRenewal(c, facts{
		pod: &pod, namespaceLabels: labels, snapshot: snapshot, live: true,
		nodeLabels: func() (map[string]string, error) { return r.nodeLabels(ctx, r.Reader, c.driver.node) },
	}), nil
}
