package nodedriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// NodePublishVolume mounts the key of the licence that the volume names at the target. The key is asked for first, so
// that nothing is mounted without it, and nothing stays mounted after a failure.
//
// A volume that is already there never fails, whatever else the call says and whether or not the key service can be
// reached: kubelet repeats the call about every minute for as long as the pod runs, and at once when the pod changes. The
// lease of the key is renewed behind its back. A key that was wiped is asked for anew, and put back in place.
func (d *Driver) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	target := req.GetTargetPath()
	if target == "" {
		return nil, status.Error(codes.InvalidArgument, "the call names no target path")
	}
	unlock, err := d.targets.lock(ctx, target)
	if err != nil {
		return nil, err
	}
	defer unlock()

	state, err := d.options.Mounts.Look(target)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "what is mounted at the target cannot be told: %v", err)
	}
	switch state {
	case KeyMounted:
		d.republish(req)
		return &csi.NodePublishVolumeResponse{}, nil
	case ForeignMounted:
		return nil, status.Error(codes.FailedPrecondition, "another filesystem is mounted at the target; unmount it")
	case OursMounted:
		if held, ok := d.leaseAt(target); ok {
			d.refill(ctx, req, held)
			return &csi.NodePublishVolumeResponse{}, nil
		}
	case NothingMounted:
		d.forget(target)
	}
	if err := d.publish(ctx, req); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// republish renews the lease of a key that is there. What kubelet says counts only where the driver has no lease of it: a
// driver without leases mounted it.
func (d *Driver) republish(req *csi.NodePublishVolumeRequest) {
	target := req.GetTargetPath()
	held, ok := d.leaseAt(target)
	if ok && held.Wiped != "" {
		// The driver ended while it put the key back.
		d.leases.put(target, lease{Version: leaseVersion, Volume: held.Volume})
		return
	}
	volume := held.Volume
	if volume == (protocol.Volume{}) {
		request, err := parsePublish(req, d.options.KubeletDir)
		if err != nil {
			return
		}
		volume = request.Volume
	}
	d.renewLater(target, volume)
}

// publish mounts the key at a target that holds none.
func (d *Driver) publish(ctx context.Context, req *csi.NodePublishVolumeRequest) error {
	request, err := parsePublish(req, d.options.KubeletDir)
	if err != nil {
		return err
	}
	// Before the key is asked for: a release that could not be used would stand in the audit log.
	noSwap, err := d.memory()
	if err != nil {
		return err
	}
	asked := d.options.Boot.Now()
	response, err := d.options.Keys.Release(ctx, request)
	if err != nil {
		return statusOf(err)
	}
	defer response.Wipe()
	held := newLease(request.Volume, d.options.Boot, asked, response.LeaseSeconds)
	files, err := held.beside(response.Files)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}

	if err := ctx.Err(); err != nil {
		// Kubelet has given up on this call and will repeat it.
		return status.FromContextError(err).Err()
	}
	if err := d.options.Mounts.DetachAll(req.GetTargetPath()); err != nil {
		return status.Errorf(codes.Internal, "what is left at the target cannot be unmounted: %v", err)
	}
	if err := d.options.Mounts.Attach(req.GetTargetPath(), files, noSwap); err != nil {
		return status.Errorf(codes.Internal, "the key cannot be mounted: %v", err)
	}
	d.leases.put(req.GetTargetPath(), held)
	d.reports.withdraw(req.GetTargetPath())
	d.options.Log.Info("Key mounted", subject(req)...)
	return nil
}

// NodeUnpublishVolume wipes and unmounts the key and removes the target. It needs nothing but the mounts: neither the key
// service, which is told later, nor anything that the driver knew before a restart. A target that is not mounted, or is not
// there, is fine.
func (d *Driver) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := req.GetTargetPath()
	if req.GetVolumeId() == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "the call names no volume or no target path")
	}
	unlock, err := d.targets.lock(ctx, target)
	if err != nil {
		return nil, err
	}
	defer unlock()
	d.prepareEnd(target)
	if err := d.options.Mounts.DetachAll(target); err != nil {
		return nil, status.Errorf(codes.Internal, "the key cannot be unmounted: %v", err)
	}
	if err := d.options.Mounts.Remove(target); err != nil {
		return nil, status.Errorf(codes.Internal, "the target cannot be removed: %v", err)
	}
	d.forget(target)
	d.reports.hurry(target)
	d.options.Log.Info("Key unmounted", subject(req)...)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// prepareEnd wipes the key at a target, for whoever on the node still has it open, and queues the report that it is gone,
// before that is so: a driver that ends in between would forget it. The report is not delivered while the volume is there.
func (d *Driver) prepareEnd(target string) {
	state, err := d.options.Mounts.Look(target)
	if err != nil || state != KeyMounted && state != OursMounted {
		return
	}
	held, ok := d.leaseAt(target)
	if err := d.options.Mounts.Wipe(target, leaseFileName); err != nil {
		d.metrics.wipeFailures.Inc()
		d.options.Log.Error(err, "A key cannot be wiped before it is unmounted", "target", target)
	}
	if ok && held.Volume.PodUID != "" {
		d.reports.add(target, held.Volume, protocol.Unpublished, "")
	}
}

// forget forgets what is known of a target.
func (d *Driver) forget(target string) {
	d.leases.remove(target)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pauses, target)
}
