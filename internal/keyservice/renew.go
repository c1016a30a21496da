package keyservice

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// Rights are licences and grants: *rights.Store.
type Rights interface {
	// Snapshot is what the cache has, and whether that is complete.
	Snapshot() (*entitlement.Snapshot, bool)
	// Live is the snapshot with a namespace's grants, and the licences they name, as the API server has them now. Calls
	// for one namespace share a read.
	Live(ctx context.Context, namespace string) (*entitlement.Snapshot, error)
	// NamespaceLabels are the labels of a namespace.
	NamespaceLabels(ctx context.Context, namespace string, live bool) (map[string]string, error)
}

// renewal is one call for the renewal of a lease.
type renewal struct {
	driver  holder
	request protocol.RenewRequest
}

// facts are what it is decided by whether a lease is renewed.
type facts struct {
	pod             *corev1.Pod
	namespaceLabels map[string]string
	snapshot        *entitlement.Snapshot
	// nodeLabels are those of the pod's node. It is only asked where the licence asks for labels.
	nodeLabels func() (map[string]string, error)
	// live says that the API server was asked for them.
	live bool
}

// undecided is why nothing can be said of a lease: it is kept as it is.
type undecided struct {
	reason  v1alpha1.Reason
	message string
	// cause is for the server's log.
	cause error
}

func (u *undecided) Error() string { return u.message }

func (u *undecided) Unwrap() error { return u.cause }

func unreadable(what string, cause error) *undecided {
	return &undecided{v1alpha1.ReasonLookupFailed, what + " cannot be read", cause}
}

// errPodGone: an object that is gone does not prove a container that stopped; but nothing makes its lease longer.
var errPodGone = &undecided{reason: v1alpha1.ReasonLeaseEnding, message: "the pod does not exist any more"}

// errOutOfTouch: who does not hear of revocations does not renew.
var errOutOfTouch = &undecided{reason: v1alpha1.ReasonLookupFailed, message: "this replica of the operator has not heard of the API server lately"}

// renew decides whether a node may keep a key, from the cache in the ordinary case. It wipes only what the API server
// confirms; where that does not answer, or this replica has not heard of it lately, the key stays for as long as its lease
// does. The error is an *undecided, or a *protocol.Error for a call that no driver has reason to make.
func (r *Releaser) renew(ctx context.Context, c *renewal) (protocol.RenewResponse, error) {
	f, err := r.cachedFacts(ctx, c)
	if err != nil {
		return protocol.RenewResponse{}, err
	}
	answer := r.decideRenewal(c, f)
	suspect := answer.Verdict == protocol.Wipe
	if !suspect && !c.request.Early {
		return answer, nil
	}
	if suspect {
		if wait := r.rates.confirmed().Take(r.Clock.Now(), c.driver.node); wait > 0 {
			return keep(v1alpha1.ReasonTooManyRequests, "too much is to be confirmed for this node at the moment"), nil
		}
	} else if wait := r.rates.live().Take(r.Clock.Now(), c.driver.node); wait > 0 {
		return answer, nil
	}
	return r.renewLive(ctx, c, answer)
}

// cachedFacts gathers what the cache has.
func (r *Releaser) cachedFacts(ctx context.Context, c *renewal) (facts, error) {
	snapshot, synced := r.Rights.Snapshot()
	if !synced || !r.InTouch() {
		return facts{}, errOutOfTouch
	}
	pod, err := findPod(ctx, r.Cached, &c.request.Volume)
	if err != nil {
		return facts{}, unreadable("the pod", err)
	}
	if pod == nil {
		return facts{}, errPodGone
	}
	if pod.Spec.NodeName != c.driver.node {
		return facts{}, refuse(v1alpha1.ReasonPodMismatch, remedyDriver, "pod %s/%s runs on another node than the caller's", pod.Namespace, pod.Name)
	}
	labels, err := r.Rights.NamespaceLabels(ctx, pod.Namespace, false)
	if err != nil {
		return facts{}, unreadable("the pod's namespace", err)
	}
	return facts{
		pod: pod, namespaceLabels: labels, snapshot: snapshot,
		nodeLabels: func() (map[string]string, error) { return r.nodeLabels(ctx, r.Cached, c.driver.node) },
	}, nil
}

func (r *Releaser) nodeLabels(ctx context.Context, from client.Reader, name string) (map[string]string, error) {
	var node corev1.Node
	err := from.Get(ctx, types.NamespacedName{Name: name}, &node, client.UnsafeDisableDeepCopy)
	return node.Labels, err
}

// decideRenewal decides by facts and the ledger.
func (r *Releaser) decideRenewal(c *renewal, f facts) protocol.RenewResponse {
	now, pod := r.Clock.Now(), f.pod
	use, refusal := entitled(pod, f.namespaceLabels, c.request.Volume.License, f.snapshot, now)
	if refusal != nil {
		return protocol.RenewResponse{Verdict: protocol.Wipe, Reason: refusal.Reason, Message: refusal.Message}
	}
	if len(use.License.Spec.Terms.NodeSelector) > 0 {
		labels, err := f.nodeLabels()
		if err != nil {
			return keep(v1alpha1.ReasonLookupFailed, "the pod's node cannot be read")
		}
		if refusal := entitlement.DecideNode(use, labels); refusal != nil {
			return protocol.RenewResponse{Verdict: protocol.Wipe, Reason: refusal.Reason, Message: refusal.Message}
		}
	}
	if pod.DeletionTimestamp != nil && !now.Before(pod.DeletionTimestamp.Time) {
		return keep(v1alpha1.ReasonLeaseEnding, "the pod should have ended by now")
	}
	if hasEnded(pod) {
		return keep(v1alpha1.ReasonLeaseEnding, "the pod has ended")
	}
	held, ok := seatOf(r.Ledgers.Ledger(use.License.Name), pod.UID)
	switch {
	case !ok:
		// Not a reason to wipe: the controller gives seats to entitled pods that run without one, and where it does not, the
		// lease ends.
		return keep(v1alpha1.ReasonNoSeat, "the pod holds no seat of the licence, as far as is known here")
	case !held.Until.IsZero():
		return keep(v1alpha1.ReasonLeaseEnding, "the pod's seat is about to end")
	case held.Kind == seats.Surge && !held.SurgeUntil.IsZero() && !now.Before(held.SurgeUntil):
		// The controller alone knows whether there is room for it by now, and says on the pod that there is not.
		if f.live && saysRevoked(pod) {
			return protocol.RenewResponse{Verdict: protocol.Wipe, Reason: v1alpha1.ReasonSurgeEnded, Message: "the pod's seat beyond the limits has ended"}
		}
		return keep(v1alpha1.ReasonSurgeEnded, "the time of the pod's seat beyond the limits is over")
	}
	return protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: leaseSeconds(use.License)}
}

func keep(reason v1alpha1.Reason, message string) protocol.RenewResponse {
	return protocol.RenewResponse{Verdict: protocol.Keep, Reason: reason, Message: message}
}

func seatOf(ledger *seats.Ledger, pod types.UID) (seats.Holder, bool) {
	if ledger == nil {
		return seats.Holder{}, false
	}
	return ledger.Holder(pod)
}

// hasEnded says whether no container of a pod runs any more, by its phase.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// saysRevoked says whether the controller wrote on a pod that it lost its entitlement.
func saysRevoked(pod *corev1.Pod) bool { return isRevoked(licensed(pod)) }

func isRevoked(c *corev1.PodCondition) bool {
	return c != nil && c.Status == corev1.ConditionFalse && c.Reason == string(v1alpha1.ReasonRevoked)
}

// licensed is a pod's condition of that name; nil where it has none.
func licensed(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == v1alpha1.PodConditionLicensed {
			return c
		}
	}
	return nil
}
