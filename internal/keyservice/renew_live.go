package keyservice

import (
	"context"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// renewLive decides by what the API server has now: before a key is wiped, and where the operator called kubelet's
// attention to the pod, since then the cache here may be behind that of the replica which did. Where nobody did, a pod's
// other changes make kubelet come early too, and what the cache said stands.
func (r *Releaser) renewLive(ctx context.Context, c *renewal, cached protocol.RenewResponse) (protocol.RenewResponse, error) {
	none := protocol.RenewResponse{}
	pod, err := findPod(ctx, r.Reader, &c.request.Volume)
	if err != nil {
		return none, unreadable("the pod", err)
	}
	if pod == nil {
		return none, errPodGone
	}
	if cached.Verdict != protocol.Wipe && pod.Annotations[v1alpha1.AnnotationAttention] == "" && !saysRevoked(pod) {
		return cached, nil
	}
	snapshot, err := r.Rights.Live(ctx, pod.Namespace)
	if err != nil {
		return none, unreadable("the licences and grants", err)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, true)
	if err != nil {
		return none, unreadable("the pod's namespace", err)
	}
	return r.decideRenewal(c, facts{
		pod: pod, namespaceLabels: labels, snapshot: snapshot, live: true,
		nodeLabels: func() (map[string]string, error) { return r.nodeLabels(ctx, r.Reader, c.driver.node) },
	}), nil
}
