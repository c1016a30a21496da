package nodedriver

import (
	"context"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// publish is kubelet's call, and what follows it behind kubelet's back.
func (r *rig) publish(t *testing.T, d *Driver) {
	t.Helper()
	if _, err := d.NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatalf("kubelet was told an error: %v", err)
	}
	d.background.Wait()
}

func (r *rig) unpublish(t *testing.T, d *Driver) {
	t.Helper()
	if _, err := d.NodeUnpublishVolume(t.Context(), unpublishRequest()); err != nil {
		t.Fatal(err)
	}
}

// key is what a container of the pod reads.
func (r *rig) key() string {
	content, _ := r.mounts.Read(target, v1alpha1.KeyFileName)
	return string(content)
}

// restart starts the driver anew, with what it does before anybody calls.
func (r *rig) restart(t *testing.T) *Driver {
	t.Helper()
	d := r.driver()
	if err := d.recoverLeases(); err != nil {
		t.Fatal(err)
	}
	return d
}

var errAway = &protocol.Error{Reason: v1alpha1.ReasonKeyServiceUnreachable, Message: "no answer", Temporary: true}

// While the key service is away, the key stays until the lease is over, and no moment longer; restarts and a wall clock change
// nothing of it.
func TestLeaseRunsOut(t *testing.T) {
	tests := map[string]struct{ restarts int }{"one run": {0}, "restarted all the time": {20}}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			d := r.driver()
			r.publish(t, d)
			r.keys.err, r.keys.renewErr = errAway, errAway
			for i := range 3599 {
				r.boot.step(time.Second)
				if tc.restarts > 0 && i%(3600/tc.restarts) == 0 {
					d = r.restart(t)
				}
				if i%76 == 0 {
					r.publish(t, d)
				}
				d.enforce(t.Context())
				if r.key() != secretKey {
					t.Fatalf("the key is gone after %d s", i+1)
				}
			}
			if tc.restarts > 0 {
				d = r.restart(t)
			}
			r.boot.step(time.Second - 1)
			if next := d.enforce(t.Context()); next != 1 || r.key() != secretKey {
				t.Fatalf("a moment before the end: key %q, next look after %s", r.key(), next)
			}
			r.boot.step(1)
			d.enforce(t.Context())
			if r.key() != "" || r.mounted()[target] != 1 {
				t.Fatalf("after the end: key %q, mounted %v", r.key(), r.mounted())
			}
			// Kubelet is told nothing of it.
			r.publish(t, d)
			if len(r.logged("Key wiped")) != 1 || r.mounts.wiped != 1 {
				t.Errorf("wiped %d times", r.mounts.wiped)
			}
			r.noSecrets(t)
		})
	}
}

// A driver that was away at the end of a lease ends it when it is back, and so does a node that slept.
func TestLeaseThatEndedMeanwhile(t *testing.T) {
	r := newRig()
	r.publish(t, r.driver())
	r.boot.step(3600 * time.Second)
	r.restart(t).enforce(t.Context())
	if r.key() != "" {
		t.Error("the key is still there")
	}
}

// What is beside a key and cannot be read does not make the key last.
func TestLeaseTornApart(t *testing.T) {
	r := newRig()
	r.publish(t, r.driver())
	r.mounts.stacks[target][0].files[leaseFileName] = `{"v":1,"vol`
	d := r.restart(t)
	d.enforce(t.Context())
	if r.key() != "" {
		t.Error("the key is still there")
	}
	r.publish(t, d)
	if r.key() != secretKey {
		t.Error("the key was not put back")
	}
}

// The tmpfs takes nothing any more: the key is wiped all the same, once.
func TestWipeThatCannotBeNoted(t *testing.T) {
	r := newRig()
	d := r.driver()
	r.publish(t, d)
	r.boot.step(time.Hour)
	r.mounts.fail["Rewrite"] = errBroken
	for range 3 {
		d.enforce(t.Context())
	}
	if r.key() != "" || r.mounts.wiped != 1 {
		t.Errorf("key %q, wiped %d times", r.key(), r.mounts.wiped)
	}
}

func TestRenewal(t *testing.T) {
	tests := map[string]struct {
		answer protocol.RenewResponse
		err    error
		// until is when the lease ends, after the renewal at 76 s.
		until time.Duration
		wiped v1alpha1.Reason
	}{
		"renewed":            {answer: protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: 3600}, until: 3676 * time.Second},
		"renewed for less":   {answer: protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: 60}, until: 136 * time.Second},
		"kept":               {answer: protocol.RenewResponse{Verdict: protocol.Keep, Reason: v1alpha1.ReasonLeaseEnding}, until: time.Hour},
		"of a later version": {answer: protocol.RenewResponse{Verdict: "Perhaps", LeaseSeconds: 9999}, until: time.Hour},
		"no answer":          {err: errAway, until: time.Hour},
		"refused":            {err: &protocol.Error{Reason: v1alpha1.ReasonPodMismatch, Message: "no"}, until: time.Hour},
		"wiped":              {answer: protocol.RenewResponse{Verdict: protocol.Wipe, Reason: v1alpha1.ReasonNoGrant}, wiped: v1alpha1.ReasonNoGrant},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			start := r.boot.Now()
			d := r.driver()
			r.publish(t, d)
			r.boot.step(76 * time.Second)
			r.keys.verdict, r.keys.renewErr = tc.answer, tc.err
			r.publish(t, d)
			for _, known := range []*Driver{d, r.restart(t)} {
				held, ok := known.leases.get(target)
				if !ok || held.Wiped != tc.wiped || tc.wiped == "" && held.Until != start+tc.until {
					t.Errorf("lease %+v, %t", held, ok)
				}
			}
			if gone := r.key() == ""; gone != (tc.wiped != "") {
				t.Errorf("key %q", r.key())
			}
			want := protocol.RenewRequest{Volume: protocol.Volume{PodNamespace: "ml-prod", PodName: "llm-0", PodUID: "uid-1", License: "acme", Handle: "csi-1234"}}
			if len(r.keys.renewals) != 1 || r.keys.renewals[0] != want {
				t.Errorf("asked %+v", r.keys.renewals)
			}
		})
	}
}

// A call of kubelet's that was not due comes from a change of the pod, which the key service is told. That is known after a
// restart, too.
func TestEarlyRenewal(t *testing.T) {
	r := newRig()
	d := r.driver()
	r.publish(t, d)
	for i, tc := range []struct {
		step  time.Duration
		early bool
	}{{10 * time.Second, true}, {76 * time.Second, false}, {59 * time.Second, true}, {60 * time.Second, false}} {
		r.boot.step(tc.step)
		if i == 2 {
			d = r.restart(t)
		}
		r.publish(t, d)
		if got := r.keys.renewals[i].Early; got != tc.early {
			t.Errorf("renewal %d: early %t, want %t", i, got, tc.early)
		}
	}
}

// An answer that comes after the lease was over, or for a volume that was taken down meanwhile, changes nothing.
func TestRenewalThatComesTooLate(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *rig, *Driver){
		"over":       func(_ *testing.T, r *rig, _ *Driver) { r.boot.step(2 * time.Hour) },
		"taken down": func(t *testing.T, r *rig, d *Driver) { r.unpublish(t, d) },
		"wiped": func(t *testing.T, r *rig, d *Driver) {
			r.boot.step(time.Hour)
			d.enforce(t.Context())
		},
		"another's": func(_ *testing.T, r *rig, d *Driver) {
			d.leases.put(target, lease{Version: leaseVersion, Volume: protocol.Volume{PodUID: "uid-2"}, BootID: r.boot.ID()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			d := r.driver()
			r.publish(t, d)
			held, _ := d.leases.get(target)
			asked := r.boot.Now()
			meanwhile(t, r, d)
			before := r.mounts.stacks[target]
			content := ""
			if len(before) > 0 {
				content = before[0].files[leaseFileName]
			}
			if err := d.obey(target, held.Volume, asked, &protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: 3600}); err != nil {
				t.Fatal(err)
			}
			if len(before) > 0 && before[0].files[leaseFileName] != content {
				t.Error("the lease was rewritten")
			}
		})
	}
}

// A key that a driver without leases mounted has none until the key service gives it one.
func TestKeyOfAnEarlierVersion(t *testing.T) {
	r := newRig()
	r.mounts.stacks[target] = []fakeMount{{ours: true, files: map[string]string{"key": secretKey}}}
	d := r.restart(t)
	r.keys.renewErr = errAway
	r.publish(t, d)
	r.boot.step(1000 * time.Hour)
	d.enforce(t.Context())
	if r.key() != secretKey {
		t.Fatal("the key is gone without a lease")
	}
	r.keys.renewErr = nil
	r.publish(t, d)
	if held, ok := r.restart(t).leases.get(target); !ok || held.Until != r.boot.Now()+time.Hour || held.Volume.PodUID != "uid-1" {
		t.Errorf("lease %+v, %t", held, ok)
	}
	if len(r.keys.requests) != 0 {
		t.Error("the key was asked for again")
	}
}

// A key service without leases gives keys that stay as long as their pods.
func TestKeyServiceOfAnEarlierVersion(t *testing.T) {
	r := newRig()
	r.keys.lease, r.keys.renewErr = 0, errAway
	d := r.driver()
	r.publish(t, d)
	r.boot.step(1000 * time.Hour)
	d.enforce(t.Context())
	r.publish(t, d)
	if r.key() != secretKey {
		t.Error("the key is gone")
	}
}

// The key comes back in place once it is released again: the pod's containers see no other mount. That it was wiped is told
// first, else it would be said of the key that is put back.
func TestWipedKeyComesBack(t *testing.T) {
	r := newRig()
	d := r.driver()
	r.publish(t, d)
	r.keys.err, r.keys.renewErr, r.keys.reportErr = errAway, errAway, errAway
	r.boot.step(time.Hour)
	d.enforce(t.Context())
	r.publish(t, d)
	if r.key() != "" {
		t.Fatal("the key came from nowhere")
	}
	changes := r.mounts.changes
	r.keys.err, r.keys.renewErr, r.keys.reportErr, r.keys.calls = nil, nil, nil, nil
	r.boot.step(76 * time.Second)
	r.publish(t, d)
	if r.key() != secretKey || r.mounts.changes != changes || r.mounted()[target] != 1 {
		t.Errorf("key %q, mounted %v", r.key(), r.mounted())
	}
	if got := strings.Join(r.keys.calls, ", "); got != "report Wiped, release" {
		t.Errorf("told %s", got)
	}
	if held, _ := r.restart(t).leases.get(target); held.Wiped != "" || held.Until != r.boot.Now()+time.Hour {
		t.Errorf("lease %+v", held)
	}
	r.noSecrets(t)
}

// The driver ends at each point while it puts a key back: nothing stays without a lease.
func TestPuttingBackIsInterrupted(t *testing.T) {
	for name, fail := range map[string]string{"the key": "Rewrite " + v1alpha1.KeyFileName, "the lease": "Rewrite " + leaseFileName} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			d := r.driver()
			r.publish(t, d)
			r.boot.step(time.Hour)
			d.enforce(t.Context())
			r.mounts.fail[fail], r.mounts.fail["Wipe"] = errBroken, errBroken
			r.boot.step(76 * time.Second)
			r.publish(t, d)
			delete(r.mounts.fail, fail)
			delete(r.mounts.fail, "Wipe")
			for range 2 {
				d = r.restart(t)
				d.enforce(t.Context())
			}
			if r.key() != "" {
				t.Error("a key without a lease is there")
			}
		})
	}
}

// An answer takes for ever: the lease ends on time, kubelet's further calls are answered, and the driver stops.
func TestRenewalThatHangs(t *testing.T) {
	r := newRig()
	hanging := &hangingKeys{fakeKeys: r.keys, asked: make(chan struct{}, 8)}
	d := r.driver()
	d.options.Keys = hanging
	for range 4 {
		if _, err := d.NodePublishVolume(t.Context(), publishRequest()); err != nil {
			t.Fatal(err)
		}
	}
	<-hanging.asked
	r.boot.step(time.Hour)
	d.enforce(t.Context())
	if r.key() != "" {
		t.Error("the key is still there")
	}
	d.stop()
	d.background.Wait()
	if n := len(hanging.asked); n != 0 {
		t.Errorf("%d more renewals were begun", n)
	}
}

// hangingKeys never answers renewals.
type hangingKeys struct {
	*fakeKeys
	asked chan struct{}
}

func (k *hangingKeys) Renew(ctx context.Context, _ *protocol.RenewRequest) (*protocol.RenewResponse, error) {
	k.asked <- struct{}{}
	<-ctx.Done()
	return nil, errAway
}
