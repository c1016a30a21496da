// Package keyservice is the operator's end of the release of keys to nodes, and of what becomes of them there; see
// protocol for what is said and client for the other end.
package keyservice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/keys"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// Releaser decides on one call and records it, before any byte of a key is written to the network.
//
// Two operators at once need nothing of each other: each decides from what it reads live, and each records what it
// releases. An operator that is killed between the record and the answer leaves an entry for a key that never
// left; the driver asks again and a second entry follows. The log may say too much, never too little.
type Releaser struct {
	// Reader reads pods, namespaces, licences and grants. It must ask the API server, not a cache.
	Reader client.Reader
	// Tokens creates TokenReviews.
	Tokens client.Writer
	// Source is where keys are kept.
	Source keys.Source
	// Audit is the log.
	Audit AuditLog
	// Events tells the pod; it must not block.
	Events EventRecorder
	// DriverNamespace and DriverServiceAccount are the account that the node driver runs as.
	DriverNamespace, DriverServiceAccount string
	// Clock is the time by which licences begin and end, and calls are counted.
	Clock clock.PassiveClock
	// Later is a later time that it may be already, which is not confirmed; false where there is none. No key is released for
	// what has ended by it; leases are renewed. Optional.
	Later func() (time.Time, bool)
	// Seats writes the ledgers of seats, Ledgers shows them.
	Seats   SeatBook
	Ledgers SeatLedgers
	// Cached reads pods and nodes as the cache has them, for renewals. What it returns is not changed.
	Cached client.Reader
	// Rights are the licences and grants as the cache has them, and live where a wipe must not rest on what may be stale.
	Rights Rights
	// InTouch says whether the API server answered lately: see Contact. While it did not, no lease is renewed.
	InTouch func() bool

	rates releaseRates
}

// call is what has been found out about one call so far. Each check adds to it or refuses.
type call struct {
	// address is where the call comes from; it may be shared.
	address string
	request protocol.ReleaseRequest

	// ahead is what was asked of the API server when the call began.
	ahead *ahead

	driver    holder
	podHolder holder
	pod       *corev1.Pod
	use       entitlement.LicenseUse
	// counted is set once the release was counted towards its pod's rate.
	counted  bool
	material keys.Material
}

// checks are what must hold for a release to a driver, in order. Each relies on those before it. The keys are fetched
// before the release is noted and recorded, so that a key that is missing leaves no record of a release.
var checks = []func(*Releaser, context.Context, *call) *protocol.Error{
	(*Releaser).checkPodToken,
	(*Releaser).checkPod,
	(*Releaser).checkEntitled,
	(*Releaser).checkNode,
	(*Releaser).checkRate,
	(*Releaser).fetchKeys,
	(*Releaser).checkSeat,
	(*Releaser).record,
}

// release answers a call whose driver is authenticated. When it returns without an error the release is durable in the
// audit log, and the caller, who alone puts the key on the network, wipes the Material after that.
func (r *Releaser) release(ctx context.Context, c *call) (keys.Material, *protocol.Error) {
	if refusal := r.decide(ctx, c); refusal != nil {
		r.refused(c, refusal)
		return keys.Material{}, refusal
	}
	r.event(c.pod, corev1.EventTypeNormal, v1alpha1.ReasonKeyReleased, fmt.Sprintf("the key of licence %s was released to node %s for containers %s",
		c.use.License.Name, c.driver.node, strings.Join(c.use.Containers, ", ")))
	return c.material, nil
}

// decide runs the checks. After a refusal no key is left in the call.
func (r *Releaser) decide(ctx context.Context, c *call) *protocol.Error {
	c.ahead = r.readAhead(ctx, &c.request.Volume)
	defer c.ahead.finish()
	for _, check := range checks {
		if refusal := check(r, ctx, c); refusal != nil {
			c.material.Wipe()
			if c.counted && ctx.Err() == nil {
				// Nothing came of it, and not because the caller hung up: then the entry may be in the log.
				r.rates.giveBack(r.Clock.Now(), c)
			}
			return refusal
		}
	}
	return nil
}

// authenticate finds that a caller is the node driver, by a token that says in which pod and on which node it runs. After
// a refusal it returns who the caller is as far as that was confirmed.
func (r *Releaser) authenticate(ctx context.Context, token string) (holder, *protocol.Error) {
	h, err := review(ctx, r.Tokens, token, protocol.AudienceDriver)
	switch {
	case errors.Is(err, errNotConfirmed):
		return h, refuse(v1alpha1.ReasonUnauthenticated, remedyDriver,
			"the call carries no token of audience %s that the API server confirms", protocol.AudienceDriver)
	case err != nil:
		return h, lookupFailed("the review of the caller's token", err)
	case h.namespace != r.DriverNamespace || h.account != r.DriverServiceAccount:
		return h, refuse(v1alpha1.ReasonNotNodeDriver, remedyDriver,
			"the caller is %s and not the node driver: a pod's own token releases no key", h.username)
	case !h.bound():
		return h, refuse(v1alpha1.ReasonTokenNotBound,
			"call with the token that kubelet projects into the node driver's pod (Kubernetes 1.32 or newer)",
			"the caller's token is not bound to a pod and a node")
	}
	return h, nil
}

// checkPodToken: the pod's own token says that it is the pod spoken of, and that it is on the caller's node.
func (r *Releaser) checkPodToken(ctx context.Context, c *call) *protocol.Error {
	h, err := review(ctx, r.Tokens, c.request.PodToken, protocol.AudiencePod)
	switch {
	case errors.Is(err, errNotConfirmed):
		return refuse(v1alpha1.ReasonUnauthenticated, remedyPodToken,
			"the pod's token is missing or not confirmed by the API server for audience %s", protocol.AudiencePod)
	case err != nil:
		return lookupFailed("the review of the pod's token", err)
	case !h.bound() || h.account == "":
		return refuse(v1alpha1.ReasonTokenNotBound, remedyPodToken, "the pod's token is not bound to a pod and a node")
	}
	c.podHolder = h
	v := &c.request.Volume
	switch {
	case h.namespace != v.PodNamespace || h.podName != v.PodName || h.podUID != v.PodUID:
		return refuse(v1alpha1.ReasonPodMismatch, remedyPodToken, "the pod's token is of another pod than the call speaks of")
	case h.node != c.driver.node:
		return refuse(v1alpha1.ReasonPodMismatch, remedyPodToken, "the pod's token is of a pod on another node than the caller's")
	}
	return nil
}

// remedyPodToken is the remedy where the pod's token is not what kubelet hands out.
const remedyPodToken = "kubelet hands the token to the node driver: see that CSIDriver " + v1alpha1.CSIDriverName +
	" requests tokens of audience " + protocol.AudiencePod

// fetchKeys: the licence's keys that open what the pod uses are to be had.
func (r *Releaser) fetchKeys(ctx context.Context, c *call) *protocol.Error {
	material, err := keys.FetchAll(ctx, r.Source, c.use.License, c.use.KeyNames)
	if err != nil {
		return refuseKey(err)
	}
	c.material = material
	return nil
}

// record: the release stands in the audit log, durably.
func (r *Releaser) record(ctx context.Context, c *call) *protocol.Error {
	if _, err := r.Audit.Append(ctx, releaseEntry(c)); err != nil {
		return auditUnavailable(err)
	}
	return nil
}

// refused tells the audit log, and the pod if it was found to be the one.
func (r *Releaser) refused(c *call, e *protocol.Error) {
	r.Audit.Submit(refusalEntry(c, e))
	if c.pod != nil {
		r.event(c.pod, corev1.EventTypeWarning, v1alpha1.ReasonKeyRefused, e.Error())
	}
}
