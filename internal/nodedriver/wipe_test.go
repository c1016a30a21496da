package nodedriver

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// wipeFailures is how often a key could not be wiped, as it is counted.
func (d *Driver) wipeFailures(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	if err := d.metrics.wipeFailures.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// A key that cannot be wiped is tried again by the driver itself, soon and then less often, until it is gone: whoever ordered
// it, and also where the driver was started anew or the key service has changed its mind since. Each attempt is counted.
func TestWipeFails(t *testing.T) {
	refused := protocol.RenewResponse{Verdict: protocol.Wipe, Reason: v1alpha1.ReasonNoGrant}
	tests := map[string]struct {
		order  func(*testing.T, *rig, *Driver)
		reason v1alpha1.Reason
	}{
		"the lease is over": {func(t *testing.T, r *rig, d *Driver) {
			r.boot.step(time.Hour)
			d.enforce(t.Context())
		}, v1alpha1.ReasonLeaseEnded},
		"the key service says so": {func(t *testing.T, r *rig, d *Driver) {
			r.keys.verdict = refused
			r.publish(t, d)
			d.enforce(t.Context())
		}, v1alpha1.ReasonNoGrant},
		"the key service says so and regrets it": {func(t *testing.T, r *rig, d *Driver) {
			before := r.keys.verdict
			r.keys.verdict = refused
			r.publish(t, d)
			r.keys.verdict = before
			r.publish(t, d)
			d.enforce(t.Context())
		}, v1alpha1.ReasonNoGrant},
		"the key was half put back": {func(t *testing.T, r *rig, d *Driver) {
			delete(r.mounts.fail, "Wipe")
			r.boot.step(time.Hour)
			d.enforce(t.Context())
			r.mounts.fail["Wipe"], r.mounts.fail["Rewrite "+leaseFileName] = errBroken, errBroken
			for r.key() == "" { // the order in which files are written is any
				r.boot.step(time.Hour)
				r.publish(t, d)
			}
			delete(r.mounts.fail, "Rewrite "+leaseFileName)
			d.enforce(t.Context())
		}, v1alpha1.ReasonLeaseEnded},
	}
	for name, tc := range tests {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRig()
				d := r.driver()
				r.publish(t, d)
				r.mounts.fail["Wipe"] = errBroken
				tc.order(t, r, d)
				if r.key() == "" {
					t.Fatal("the key is gone already")
				}
				if restarted {
					d = r.restart(t)
				}
				failed := d.wipeFailures(t)
				for range 600 {
					r.boot.step(time.Second)
					if next := d.enforce(t.Context()); next > longestSleep {
						t.Fatalf("next after %s", next)
					}
				}
				if n := d.wipeFailures(t) - failed; n < 600/15-1 || n > 600/15+5 {
					t.Errorf("tried %v times in ten minutes", n)
				}
				delete(r.mounts.fail, "Wipe")
				r.boot.step(longestWipePause)
				d.enforce(t.Context())
				held, _ := d.leases.get(target)
				if r.key() != "" || held.Wiped != tc.reason || held.Due != "" {
					t.Errorf("key %q, lease %+v", r.key(), held)
				}
				if waits := d.reports.wiped(target); waits == nil || waits.Reason != tc.reason {
					t.Errorf("report %+v", waits)
				}
				wiped := r.mounts.wiped
				r.boot.step(time.Minute)
				if d.enforce(t.Context()); r.mounts.wiped != wiped {
					t.Error("wiped again")
				}
			})
		}
	}
}

// A key of which a part could not be wiped is not put back before that is done.
func TestWipeOfAPart(t *testing.T) {
	r := newRig()
	d := r.driver()
	r.publish(t, d)
	r.boot.step(time.Hour)
	r.mounts.fail["Wipe"] = errBroken
	d.enforce(t.Context())
	r.mounts.stacks[target][0].files[v1alpha1.KeyFileName] = ""
	asked := len(r.keys.requests)
	r.publish(t, d)
	if len(r.keys.requests) != asked {
		t.Error("the key was asked for")
	}
	delete(r.mounts.fail, "Wipe")
	r.publish(t, d)
	if r.key() != secretKey {
		t.Error("the key was not put back")
	}
}
