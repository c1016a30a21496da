package keyservice

import (
	"context"
	"crypto/sha256"
	"net"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"modelrights.dev/modelrights/internal/keyservice/limit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// What is let in. A node that starts 500 pods of two licences each, or restarts, stays within all of it; so does a driver
// whose calls are repeated because their answers got lost.
const (
	// waitTimeout is how long a call waits for its turn, all in all.
	waitTimeout = 5 * time.Second
	// nodeWaiting is how many calls of a node wait for one of its protocol.MaxCallsPerNode turns. The driver keeps its calls to
	// that number, so only a driver that is being replaced by another has calls wait.
	nodeWaiting = 32
	// maxNodes and maxAddresses bound the memory for nodes and addresses, some 200 bytes each.
	maxNodes, maxAddresses = 16384, 16384
	// maxConfirmed bounds the memory for tokens, some 500 bytes each.
	maxConfirmed = 16384
	// confirmedFor is for how long a token is remembered to be a driver's. Kubelet renews tokens about hourly.
	confirmedFor = time.Hour
	// addressReviews and maxReviews are how many tokens that were not confirmed before are under review at a time, for one
	// address and for all; so many more wait.
	addressReviews, addressWaiting = 2, 8
	maxReviews, reviewsWaiting     = 16, 1024
)

var (
	// nodeRate bounds the calls of a node.
	nodeRate = limit.Rate{Burst: 1000, Every: 100 * time.Millisecond}
	// addressRate bounds the calls of an address whose tokens were not confirmed before: each costs the API server a
	// review, of whoever it may be.
	addressRate = limit.Rate{Burst: 20, Every: 2 * time.Second}
)

// door lets drivers in, each node within its limits, and keeps others from getting in the way.
//
// Every call's token is reviewed; no answer of the API server stands in for a later one. That a token was confirmed
// before only decides whose limits the call falls under: those of the driver's node, or, as long as nobody knows who
// calls, those of the address it comes from. So a flood of calls that are not the driver's meets none of the limits of those
// that are, but for a driver's first call with a new token.
type door struct {
	authenticate func(ctx context.Context, token string) (holder, *protocol.Error)
	clock        clock.PassiveClock

	nodeRates    *limit.Rates[string]
	nodeTurns    *limit.Slots[string]
	addressRates *limit.Rates[string]
	addressTurns *limit.Slots[string]
	reviewTurns  *limit.Slots[struct{}]

	mu sync.Mutex
	// confirmed are the holders of drivers' tokens, by the tokens' hashes.
	confirmed *limit.Recent[[sha256.Size]byte, holder]
}

func newDoor(r *Releaser) *door {
	return &door{
		authenticate: r.authenticate,
		clock:        r.Clock,
		nodeRates:    limit.NewRates[string](nodeRate, maxNodes),
		nodeTurns:    limit.NewSlots[string](protocol.MaxCallsPerNode, nodeWaiting),
		addressRates: limit.NewRates[string](addressRate, maxAddresses),
		addressTurns: limit.NewSlots[string](addressReviews, addressWaiting),
		reviewTurns:  limit.NewSlots[struct{}](maxReviews, reviewsWaiting),
		confirmed:    limit.NewRecent[[sha256.Size]byte, holder](maxConfirmed, confirmedFor),
	}
}

// enter finds out who calls, sets the call's driver, and takes one of its node's turns, which the caller gives back by
// leave. After a refusal there is nothing to give back, and the driver is set as far as it is known.
func (d *door) enter(ctx context.Context, c *call) (leave func(), refusal *protocol.Error) {
	waiting, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	token := sha256.Sum256([]byte(c.bearer))
	known, ok := d.lookUp(token)
	if !ok {
		if c.driver, refusal = d.reviewUnknown(ctx, waiting, c); refusal != nil {
			return nil, refusal
		}
		d.remember(token, c.driver)
		return d.enterNode(waiting, c.driver.node)
	}
	c.driver = known
	leave, refusal = d.enterNode(waiting, known.node)
	if refusal != nil {
		return nil, refusal
	}
	if c.driver, refusal = d.authenticate(ctx, c.bearer); refusal != nil {
		leave()
		if !refusal.Temporary {
			d.forget(token)
		}
		return nil, refusal
	}
	return leave, nil
}

// reviewUnknown has a token reviewed that was not confirmed before, within the limits of the address that it comes from.
func (d *door) reviewUnknown(ctx, waiting context.Context, c *call) (holder, *protocol.Error) {
	const who = "callers at this address whose tokens were not confirmed yet"
	if wait := d.addressRates.Take(d.clock.Now(), c.address); wait > 0 {
		return holder{}, tooManyRequests(wait, "%s call too often", who)
	}
	leaveAddress, ok := d.addressTurns.Enter(waiting, c.address)
	if !ok {
		return holder{}, tooManyRequests(time.Second, "too many calls of %s are under way", who)
	}
	defer leaveAddress()
	leaveReviews, ok := d.reviewTurns.Enter(waiting, struct{}{})
	if !ok {
		return holder{}, tooManyRequests(time.Second, "too many callers wait for the review of their tokens")
	}
	defer leaveReviews()
	return d.authenticate(ctx, c.bearer)
}

func (d *door) enterNode(waiting context.Context, node string) (leave func(), refusal *protocol.Error) {
	if wait := d.nodeRates.Take(d.clock.Now(), node); wait > 0 {
		return nil, tooManyRequests(wait, "node %s asks for keys too often", node)
	}
	leave, ok := d.nodeTurns.Enter(waiting, node)
	if !ok {
		return nil, tooManyRequests(time.Second, "too many calls of node %s are under way", node)
	}
	return leave, nil
}

func (d *door) lookUp(token [sha256.Size]byte) (holder, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.confirmed.Look(d.clock.Now(), token)
}

func (d *door) remember(token [sha256.Size]byte, h holder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.confirmed.Use(d.clock.Now(), token) = h
}

func (d *door) forget(token [sha256.Size]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.confirmed.Forget(token)
}

// addressOf is the address that a call comes from, without its port.
func addressOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}
