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
	// renewalTrust is for how long after its review a token is good for renewals.
	renewalTrust = 10 * time.Minute
	// addressReviews and maxReviews are how many tokens that were not confirmed before are under review at a time, for one
	// address and for all; so many more wait.
	addressReviews, addressWaiting = 2, 8
	maxReviews, reviewsWaiting     = 16, 1024
)

var (
	// nodeRate bounds the calls of a node for keys, and apart from them its reports.
	nodeRate = limit.Rate{Burst: 1000, Every: 100 * time.Millisecond}
	// renewalRate bounds the renewals of a node. 500 pods have some seven a second.
	renewalRate = limit.Rate{Burst: 1000, Every: 20 * time.Millisecond}
	// addressRate bounds the calls of an address whose tokens were not confirmed before: each costs the API server a
	// review, of whoever it may be.
	addressRate = limit.Rate{Burst: 20, Every: 2 * time.Second}
)

// door lets drivers in, each node within its limits, and keeps others from getting in the way.
//
// Every call's token is reviewed, but for renewals, which release nothing: there a review of the last ten minutes does. Else
// that a token was confirmed before only decides whose limits the call falls under: those of the driver's node, or, as
// long as nobody knows who calls, those of the address it comes from. So a flood of calls that are not the driver's meets
// none of the limits of those that are, but for a driver's first call with a new token.
type door struct {
	authenticate func(ctx context.Context, token string) (holder, *protocol.Error)
	clock        clock.PassiveClock

	releases, renewals, reports entrance

	addressRates *limit.Rates[string]
	addressTurns *limit.Slots[string]
	reviewTurns  *limit.Slots[struct{}]

	mu sync.Mutex
	// confirmed are the holders of drivers' tokens, by the tokens' hashes.
	confirmed *limit.Recent[[sha256.Size]byte, confirmation]
}

// entrance is what one kind of call of a node is bounded by.
type entrance struct {
	rates *limit.Rates[string]
	turns *limit.Slots[string]
	// trust is for how long a review of the caller's token counts; 0 has each call's reviewed.
	trust time.Duration
}

// confirmation is that a token was found to be a driver's.
type confirmation struct {
	holder holder
	at     time.Time
}

// counts says whether the confirmation is no older than that. One of the future is: the clock was set back.
func (c confirmation) counts(now time.Time, trust time.Duration) bool {
	age := now.Sub(c.at)
	return age >= 0 && age < trust
}

func newDoor(r *Releaser) *door {
	through := func(rate limit.Rate, trust time.Duration) entrance {
		return entrance{
			rates: limit.NewRates[string](rate, maxNodes),
			turns: limit.NewSlots[string](protocol.MaxCallsPerNode, nodeWaiting),
			trust: trust,
		}
	}
	return &door{
		authenticate: r.authenticate,
		clock:        r.Clock,
		releases:     through(nodeRate, 0),
		renewals:     through(renewalRate, renewalTrust),
		reports:      through(nodeRate, 0),
		addressRates: limit.NewRates[string](addressRate, maxAddresses),
		addressTurns: limit.NewSlots[string](addressReviews, addressWaiting),
		reviewTurns:  limit.NewSlots[struct{}](maxReviews, reviewsWaiting),
		confirmed:    limit.NewRecent[[sha256.Size]byte, confirmation](maxConfirmed, confirmedFor),
	}
}

// enter finds out who calls and takes one of its node's turns, which the caller gives back by leave. After a refusal there
// is nothing to give back, and the driver is set as far as it is known.
func (d *door) enter(ctx context.Context, by *entrance, bearer, address string) (driver holder, leave func(), refusal *protocol.Error) {
	waiting, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	token := sha256.Sum256([]byte(bearer))
	known, ok := d.lookUp(token)
	if !ok {
		if driver, refusal = d.reviewUnknown(ctx, waiting, bearer, address); refusal != nil {
			return driver, nil, refusal
		}
		d.remember(token, driver)
		leave, refusal = d.enterNode(waiting, by, driver.node)
		return driver, leave, refusal
	}
	driver = known.holder
	leave, refusal = d.enterNode(waiting, by, driver.node)
	if refusal != nil || known.counts(d.clock.Now(), by.trust) {
		return driver, leave, refusal
	}
	if driver, refusal = d.authenticate(ctx, bearer); refusal != nil {
		leave()
		if !refusal.Temporary {
			d.forget(token)
		}
		return driver, nil, refusal
	}
	d.remember(token, driver)
	return driver, leave, nil
}

// reviewUnknown has a token reviewed that was not confirmed before, within the limits of the address that it comes from.
func (d *door) reviewUnknown(ctx, waiting context.Context, bearer, address string) (holder, *protocol.Error) {
	const who = "callers at this address whose tokens were not confirmed yet"
	if wait := d.addressRates.Take(d.clock.Now(), address); wait > 0 {
		return holder{}, tooManyRequests(wait, "%s call too often", who)
	}
	leaveAddress, ok := d.addressTurns.Enter(waiting, address)
	if !ok {
		return holder{}, tooManyRequests(time.Second, "too many calls of %s are under way", who)
	}
	defer leaveAddress()
	leaveReviews, ok := d.reviewTurns.Enter(waiting, struct{}{})
	if !ok {
		return holder{}, tooManyRequests(time.Second, "too many callers wait for the review of their tokens")
	}
	defer leaveReviews()
	return d.authenticate(ctx, bearer)
}

func (d *door) enterNode(waiting context.Context, by *entrance, node string) (leave func(), refusal *protocol.Error) {
	if wait := by.rates.Take(d.clock.Now(), node); wait > 0 {
		return nil, tooManyRequests(wait, "node %s calls too often", node)
	}
	leave, ok := by.turns.Enter(waiting, node)
	if !ok {
		return nil, tooManyRequests(time.Second, "too many calls of node %s are under way", node)
	}
	return leave, nil
}

func (d *door) lookUp(token [sha256.Size]byte) (confirmation, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.confirmed.Look(d.clock.Now(), token)
}

func (d *door) remember(token [sha256.Size]byte, h holder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	*d.confirmed.Use(now, token) = confirmation{holder: h, at: now}
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
