package nodedriver

import (
	"context"
	"errors"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/limit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

const (
	// refillTimeout is how long a call of kubelet's for a wiped volume waits for the key, which it then has to do without.
	refillTimeout = 5 * time.Second

	// longestRefillPause is the longest time between two attempts to have a wiped key again while the key service refuses.
	longestRefillPause = 3 * time.Minute
)

// What a node asks for early: the key service takes ten releases a second from it, and starting pods need them.
var (
	earlyOfTarget    = limit.Rate{Burst: 3, Every: 20 * time.Second}
	earlyOfNamespace = limit.Rate{Burst: 50, Every: 500 * time.Millisecond}
)

// maxEarly bounds the memory for each of them.
const maxEarly = 4096

// renewal is one that is under way. Whoever comes meanwhile has it followed by another.
type renewal struct{ again bool }

// renewLater asks the key service, behind kubelet's back, whether the key at a target may stay. Kubelet waits for
// nothing, and hears of no failure.
func (d *Driver) renewLater(target string, volume protocol.Volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if under := d.renewals[target]; under != nil {
		under.again = true
		return
	}
	under := &renewal{}
	d.renewals[target] = under
	d.background.Go(func() {
		for again := true; again; {
			d.renew(d.stopping, target, volume)
			d.mu.Lock()
			again, under.again = under.again && d.stopping.Err() == nil, false
			if !again {
				delete(d.renewals, target)
			}
			d.mu.Unlock()
		}
	})
}

// renew asks whether the key at a target may stay, and does as it is told. Without an answer nothing changes.
func (d *Driver) renew(ctx context.Context, target string, volume protocol.Volume) {
	before, _ := d.leases.get(target)
	asked := d.options.Boot.Now()
	answer, err := d.options.Keys.Renew(ctx, &protocol.RenewRequest{Volume: volume, Early: before.early(d.options.Boot)})
	if err != nil {
		d.metrics.renewals.WithLabelValues(resultFailed).Inc()
		d.options.Log.Info("Lease not renewed", "error", err.Error(), "namespace", volume.PodNamespace, "pod", volume.PodName,
			"license", volume.License, "volume", volume.Handle)
		return
	}
	unlock, err := d.targets.lock(ctx, target)
	if err != nil {
		return // the driver stops
	}
	defer unlock()
	if err := d.obey(target, volume, asked, answer); err != nil {
		d.options.Log.Error(err, "What the key service said of a lease cannot be done", "verdict", answer.Verdict, "target", target)
	}
}

// obey does what the key service said of the key at a target, which the caller has locked.
func (d *Driver) obey(target string, volume protocol.Volume, asked time.Duration, answer *protocol.RenewResponse) error {
	state, err := d.options.Mounts.Look(target)
	if err != nil || state != KeyMounted {
		return err // taken down or wiped meanwhile
	}
	held, ok := d.leaseAt(target)
	if !ok || held.Volume == (protocol.Volume{}) {
		held.Version, held.Volume = leaseVersion, volume
	}
	if held.Volume.PodUID != volume.PodUID || held.Volume.License != volume.License {
		return nil // another volume by now
	}
	switch answer.Verdict {
	case protocol.Wipe:
		d.metrics.renewals.WithLabelValues(resultWiped).Inc()
		return d.wipe(target, held, answer.Reason, causeRefused)
	case protocol.Renewed:
		if ok && held.over(d.options.Boot) {
			return nil // about to be wiped, for which the answer came too late
		}
		d.metrics.renewals.WithLabelValues(resultRenewed).Inc()
		held.renew(d.options.Boot, asked, answer.LeaseSeconds)
		return d.writeLease(target, held)
	default:
		d.metrics.renewals.WithLabelValues(resultKept).Inc()
		d.options.Log.Info("Lease not extended", "reason", answer.Reason, "message", answer.Message, "namespace", volume.PodNamespace,
			"pod", volume.PodName, "license", volume.License, "volume", volume.Handle)
		if ok && held.BootID == d.options.Boot.ID() {
			held.Answered = asked
			d.leases.put(target, held)
		}
		return nil
	}
}

// refill asks for a key that was wiped, and puts it back in place if it is released. What goes wrong is logged: kubelet is
// told nothing, as of any volume that is there. The caller has locked the target.
func (d *Driver) refill(ctx context.Context, req *csi.NodePublishVolumeRequest, held lease) {
	target := req.GetTargetPath()
	if held.Due != "" {
		reason, cause := held.ending()
		if err := d.wipe(target, held, reason, cause); err != nil {
			d.options.Log.Error(err, "A key that is partly wiped cannot be wiped", "target", target)
			return
		}
		held, _ = d.leases.get(target)
	}
	if held.Wiped == "" {
		// The driver ended before it could note it.
		held.Wiped = v1alpha1.ReasonLeaseEnded
		d.leases.put(target, held)
		d.reports.add(target, held.Volume, protocol.Wiped, held.Wiped)
	}
	now := d.options.Boot.Now()
	d.mu.Lock()
	pause := d.pauses[target]
	early := pause.called > 0 && now-pause.called < protocol.EarlyRenewal
	pause.called = now
	d.pauses[target] = pause
	d.mu.Unlock()
	if early && !d.mayBeEarly(target, held.Volume.PodNamespace, now) || !early && now < pause.until {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refillTimeout)
	defer cancel()
	if err := d.putBack(ctx, req); err != nil {
		d.mu.Lock()
		d.pauses[target] = pause.next(now, err)
		d.mu.Unlock()
		d.options.Log.Info("A wiped key stays away", append(subject(req), "error", status.Convert(err).Message())...)
		return
	}
	d.mu.Lock()
	delete(d.pauses, target)
	d.mu.Unlock()
	d.options.Log.Info("Key put back", subject(req)...)
}

// mayBeEarly says whether a wiped key may be asked for when kubelet's call was not due: somebody changed the pod. That may be
// the operator, since the key is released again, or a tenant, as often as he likes.
func (d *Driver) mayBeEarly(target, namespace string, now time.Duration) bool {
	at := time.Unix(0, 0).Add(now)
	return d.earlyOfTarget.Take(at, target) == 0 && d.earlyOfNamespace.Take(at, namespace) == 0
}

// pause is when a wiped key is asked for again: not before until, unless kubelet calls when that is not due, and that not too
// often.
type pause struct {
	called, until time.Duration
	refusals      int
}

// next is the pause after an attempt failed. Only refusals make it longer: what passes by itself is tried at each call.
func (p pause) next(now time.Duration, err error) pause {
	var refused *protocol.Error
	if !errors.As(err, &refused) || refused.Temporary {
		p.until = 0
		return p
	}
	p.until = now + min(protocol.EarlyRenewal<<min(p.refusals, 10), longestRefillPause)
	p.refusals++
	return p
}

// putBack has a key released and writes it into the files that are there.
func (d *Driver) putBack(ctx context.Context, req *csi.NodePublishVolumeRequest) error {
	request, err := parsePublish(req, d.options.KubeletDir)
	if err != nil {
		return err
	}
	if _, err := d.memory(); err != nil {
		return err
	}
	target := req.GetTargetPath()
	// First that the key was wiped: said after the release, it would speak of the key that is put back.
	if waits := d.reports.wiped(target); waits != nil {
		if d.deliverOne(ctx, waits); !d.reports.isDone(waits) {
			return errors.New("the key service does not take the report that the key was wiped")
		}
	}
	asked := d.options.Boot.Now()
	response, err := d.options.Keys.Release(ctx, request)
	if err != nil {
		return err
	}
	defer response.Wipe()
	fresh := newLease(request.Volume, d.options.Boot, asked, response.LeaseSeconds)
	err = d.options.Mounts.Rewrite(target, response.Files)
	if err == nil {
		// The lease after the key: one that is over wipes what a driver that ends here left.
		err = d.writeLease(target, fresh)
	}
	if err == nil {
		return nil
	}
	if wipeErr := d.options.Mounts.Wipe(target, leaseFileName); wipeErr != nil {
		err = errors.Join(err, d.notWiped(target, fresh, v1alpha1.ReasonLeaseEnded, wipeErr))
	}
	return err
}
