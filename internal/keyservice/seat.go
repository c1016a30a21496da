package keyservice

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/seats"
)

// SeatBook writes the ledgers of seats: *seatbook.Book.
type SeatBook interface {
	// Do applies changes to the ledger of a licence. A nil error means that they are stored.
	Do(ctx context.Context, license string, changes ...seats.Change) ([]seats.Result, error)
}

// SeatLedgers shows the ledgers of seats as the cache has them: *seatbook.View.
type SeatLedgers interface {
	// Ledger is the ledger of a licence, nil where there is none. It must not be changed.
	Ledger(license string) *seats.Ledger
}

// DefaultLease is the lease of a licence that says nothing of it, as the API's schema has it.
const DefaultLease = time.Hour

// leaseSeconds is for how long a node may keep a key of a licence without another word.
func leaseSeconds(l *v1alpha1.ModelLicense) int64 {
	lease := DefaultLease
	if d := l.Spec.Terms.LeaseDuration; d != nil && d.Duration > 0 {
		lease = min(d.Duration, protocol.MaxLease)
	}
	return int64(lease / time.Second)
}

// checkNode: the node has the labels that the licence asks for.
func (r *Releaser) checkNode(ctx context.Context, c *call) *protocol.Error {
	if len(c.use.License.Spec.Terms.NodeSelector) == 0 {
		return nil
	}
	var node corev1.Node
	if err := r.Reader.Get(ctx, types.NamespacedName{Name: c.driver.node}, &node); err != nil {
		return lookupFailed("the pod's node", err)
	}
	if refusal := entitlement.DecideNode(c.use, node.Labels); refusal != nil {
		return refuseVolume(*refusal)
	}
	return nil
}

// checkSeat: the pod holds a seat of the licence and runs on a node within the limits, which the ledger then says. From
// here on its seat needs proof of its end.
func (r *Releaser) checkSeat(ctx context.Context, c *call) *protocol.Error {
	results, err := r.Seats.Do(ctx, c.use.License.Name, seats.Release{Pod: c.pod.UID, Node: c.driver.node})
	if err != nil {
		return lookupFailed("the licence's seat ledger", err)
	}
	if result := results[0]; !result.OK() {
		return refuseSeat(c, result)
	}
	return nil
}

func refuseSeat(c *call, result seats.Result) *protocol.Error {
	switch result.Reason {
	case v1alpha1.ReasonNoSeat:
		e := refuse(result.Reason, "it is tried again; if it persists, delete the pod, so that a new one waits for a seat",
			"pod %s/%s holds no seat of licence %s", c.pod.Namespace, c.pod.Name, c.use.License.Name)
		e.Temporary = true
		return e
	case v1alpha1.ReasonLeaseEnding:
		e := refuse(result.Reason, "it is tried again; if it persists, delete the pod, so that a new one waits for a seat",
			"the seat of pod %s/%s in licence %s is about to end, since its node was cut off", c.pod.Namespace, c.pod.Name, c.use.License.Name)
		e.Temporary = true
		return e
	case v1alpha1.ReasonNodeLimit:
		return refuse(result.Reason, "delete the pod, so that another is placed on a node that is in use, or ask for a higher limit",
			"node %s would be one more than the limit of nodes of licence %s", c.driver.node, c.use.License.Name)
	default:
		return refuse(result.Reason, protocol.RemedyRetry, "the seat ledger of licence %s refuses: %s", c.use.License.Name, result.Message)
	}
}
