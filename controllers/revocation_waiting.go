package controllers

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// oldestWipe is since when the ledgers have not said of a key that was to be wiped that it was; zero where none is.
func (p *proceedings) oldestWipe() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var oldest time.Time
	for _, pods := range p.licenses {
		for _, w := range pods {
			if oldest.IsZero() || w.seen.Before(oldest) {
				oldest = w.seen
			}
		}
	}
	return oldest
}

// RegisterWaiting registers the metric of the revocation that has waited longest for its key to be wiped. Call it before
// the controller runs.
func (r *RevocationReconciler) RegisterWaiting(registry prometheus.Registerer) error {
	err := registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modelrights_revocation_oldest_wipe_seconds",
		Help: "How long ago the operator saw that a pod lost its entitlement whose key is not known to be wiped; of several pods, the longest. 0 where there is none.",
	}, func() float64 {
		oldest := r.proceedings.oldestWipe()
		if oldest.IsZero() {
			return 0
		}
		return max(r.Clock.Since(oldest).Seconds(), 0)
	}))
	if err != nil {
		return fmt.Errorf("registering the metric of revocations that wait: %w", err)
	}
	return nil
}
