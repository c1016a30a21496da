package nodedriver

import (
	"fmt"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// A key that is refused for good is asked for less and less often, unless the pod was changed.
func TestRefusedKeyIsAskedForSeldom(t *testing.T) {
	r := newRig()
	d := r.driver()
	r.publish(t, d)
	r.keys.verdict = protocol.RenewResponse{Verdict: protocol.Wipe, Reason: v1alpha1.ReasonNoGrant}
	r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonNoGrant, Message: "no grant"}
	r.publish(t, d)
	asked := len(r.keys.requests)
	for range 10 * 3600 / 76 {
		r.boot.step(76 * time.Second)
		r.publish(t, d)
	}
	if n := len(r.keys.requests) - asked; n < 140 || n > 180 {
		t.Errorf("asked %d times in ten hours", n)
	}
	r.keys.err = nil
	r.boot.step(time.Second)
	r.publish(t, d)
	if r.key() != secretKey {
		t.Error("the key is not back although the pod was changed")
	}
}

// A tenant who writes his pod all the time has its wiped key asked for some times and then seldom, whatever the refusal is.
func TestChurnedPodIsAskedForSeldom(t *testing.T) {
	for name, err := range map[string]*protocol.Error{
		"refused for good":   {Reason: v1alpha1.ReasonNoGrant, Message: "no grant"},
		"refused for now":    {Reason: v1alpha1.ReasonNoSeat, Message: "no seat", Temporary: true},
		"nobody answers":     errAway,
		"asked for too much": {Reason: v1alpha1.ReasonTooManyRequests, Message: "too many", Temporary: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			d := r.driver()
			r.publish(t, d)
			r.boot.step(time.Hour)
			d.enforce(t.Context())
			r.keys.err = err
			asked := len(r.keys.requests)
			for range 600 {
				r.boot.step(time.Second)
				r.publish(t, d)
			}
			if n, most := len(r.keys.requests)-asked, earlyOfTarget.Burst+600/20+1; n < 600/20 || n > most {
				t.Errorf("asked %d times in ten minutes, want at most %d", n, most)
			}
			r.keys.err = nil
			r.boot.step(20 * time.Second)
			r.publish(t, d)
			if r.key() != secretKey {
				t.Error("the key is not back although it is released again")
			}
		})
	}
}

// All pods of a tenant together leave room for the pods of others.
func TestChurnOfANamespaceIsBounded(t *testing.T) {
	r := newRig()
	d := r.driver()
	volumes := func() {
		for i := range 100 {
			req := publishRequest()
			req.VolumeId, req.TargetPath = fmt.Sprintf("csi-%d", i), fmt.Sprintf("%s/pods/uid-%d/volumes/kubernetes.io~csi/k/mount", kubeletDir, i)
			if _, err := d.NodePublishVolume(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		d.background.Wait()
	}
	volumes()
	r.boot.step(time.Hour)
	d.enforce(t.Context())
	r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonNoSeat, Message: "no seat", Temporary: true}
	volumes() // due
	asked := len(r.keys.requests)
	for range 10 {
		r.boot.step(time.Second)
		volumes()
	}
	if n, most := len(r.keys.requests)-asked, earlyOfNamespace.Burst+10*2; n > most {
		t.Errorf("asked %d times in ten seconds, want at most %d", n, most)
	}
}
