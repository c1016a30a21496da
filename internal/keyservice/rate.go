package keyservice

import (
	"context"
	"sync"
	"time"

	"modelrights.dev/modelrights/internal/keyservice/limit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// podRate bounds the releases of one licence's key to one pod: each is an entry in the audit log. A pod needs one. A driver
// whose answer got lost asks again after a second or so, and a node that was rebooted once.
var podRate = limit.Rate{Burst: 5, Every: time.Minute}

// maxPods bounds the memory for pods, some 300 bytes for each pod and licence that had a key in the last five minutes.
const maxPods = 65536

// podLicense is what a release is counted by. Both are found to be true before, so that no node can use up what another's
// pods have, nor fill the memory with names.
type podLicense struct{ podUID, license string }

// liveRate bounds, for each node, what renewals and reports ask the API server beyond the ordinary: two to four reads
// each. A revocation of some hundred pods on a node stays within it. Renewals, what is confirmed before a key is wiped, and
// reports, which free seats, have room of their own each, since tenants make kubelet come early by whatever they write on
// their pods.
var liveRate = limit.Rate{Burst: 500, Every: 50 * time.Millisecond}

// releaseRates counts releases, and reads for renewals and reports. The zero value is ready.
type releaseRates struct {
	once    sync.Once
	rates   *limit.Rates[podLicense]
	nodes   *limit.Rates[string]
	wipes   *limit.Rates[string]
	reports *limit.Rates[string]
}

func (r *releaseRates) prepare() {
	r.once.Do(func() {
		r.rates = limit.NewRates[podLicense](podRate, maxPods)
		r.nodes = limit.NewRates[string](liveRate, maxNodes)
		r.wipes = limit.NewRates[string](liveRate, maxNodes)
		r.reports = limit.NewRates[string](liveRate, maxNodes)
	})
}

func (r *releaseRates) of() *limit.Rates[podLicense] {
	r.prepare()
	return r.rates
}

func (r *releaseRates) live() *limit.Rates[string] {
	r.prepare()
	return r.nodes
}

// confirmed counts what is confirmed before a key is wiped.
func (r *releaseRates) confirmed() *limit.Rates[string] {
	r.prepare()
	return r.wipes
}

// reported counts what is looked up for reports.
func (r *releaseRates) reported() *limit.Rates[string] {
	r.prepare()
	return r.reports
}

func (r *releaseRates) giveBack(now time.Time, c *call) { r.of().GiveBack(now, keyOf(c)) }

func keyOf(c *call) podLicense { return podLicense{string(c.pod.UID), c.use.License.Name} }

// checkRate: the pod has not been given this key too often of late. It comes after all that may be wrong with a pod, so
// that a pod that waits for a grant is told so each time it asks.
func (r *Releaser) checkRate(_ context.Context, c *call) *protocol.Error {
	if wait := r.rates.of().Take(r.Clock.Now(), keyOf(c)); wait > 0 {
		return tooManyRequests(wait, "the key of licence %s was asked for too often for pod %s/%s", c.use.License.Name, c.pod.Namespace, c.pod.Name)
	}
	c.counted = true
	return nil
}
