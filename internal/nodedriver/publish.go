package nodedriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NodePublishVolume mounts the key of the licence that the volume names at the target. The key is asked for first, so
// that nothing is mounted without it, and nothing stays mounted after a failure.
//
// A volume that is already there is left alone, whatever else the call says and whether or not the key service can be
// reached: kubelet repeats the call about every minute for as long as the pod runs, and such a call never fails.
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
	if state == KeyMounted {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if state == ForeignMounted {
		return nil, status.Error(codes.FailedPrecondition, "another filesystem is mounted at the target; unmount it")
	}
	if err := d.publish(ctx, req); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
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
	response, err := d.options.Keys.Release(ctx, request)
	if err != nil {
		return statusOf(err)
	}
	defer response.Wipe()

	if err := ctx.Err(); err != nil {
		// Kubelet has given up on this call and will repeat it.
		return status.FromContextError(err).Err()
	}
	if err := d.options.Mounts.DetachAll(req.GetTargetPath()); err != nil {
		return status.Errorf(codes.Internal, "what is left at the target cannot be unmounted: %v", err)
	}
	if err := d.options.Mounts.Attach(req.GetTargetPath(), response.Files, noSwap); err != nil {
		return status.Errorf(codes.Internal, "the key cannot be mounted: %v", err)
	}
	d.options.Log.Info("Key mounted", subject(req)...)
	return nil
}

// NodeUnpublishVolume unmounts the key and removes the target. It needs nothing but the mounts: neither the key service
// nor anything that the driver knew before a restart. A target that is not mounted, or is not there, is fine.
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
	if err := d.options.Mounts.DetachAll(target); err != nil {
		return nil, status.Errorf(codes.Internal, "the key cannot be unmounted: %v", err)
	}
	if err := d.options.Mounts.Remove(target); err != nil {
		return nil, status.Errorf(codes.Internal, "the target cannot be removed: %v", err)
	}
	d.options.Log.Info("Key unmounted", subject(req)...)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
