// Package nodedriver is the CSI driver that brings keys into pods: the identity and node services of CSI, and the
// registration with kubelet. It serves inline ephemeral volumes only, asks the key service for each, and mounts a tmpfs
// that holds the key and exists for one pod alone. It needs no access to the Kubernetes API.
package nodedriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// KeyService releases keys: *client.Client.
type KeyService interface {
	// Release returns the files of a volume, which the caller wipes. Every error is a *protocol.Error.
	Release(ctx context.Context, request *protocol.ReleaseRequest) (*protocol.ReleaseResponse, error)
}

// Options are what a Driver works with.
type Options struct {
	// NodeName is the name of the Node that the driver runs on.
	NodeName string
	// KubeletDir is kubelet's root directory, as kubelet names it; targets outside it are refused.
	KubeletDir string
	// Version is the driver's version, as it shows it to kubelet.
	Version string
	// Keys is where keys come from.
	Keys KeyService
	// Mounts are the node's mounts.
	Mounts Mounts
	// SwapAreas lists the swap areas that are in use: ReadSwapAreas.
	SwapAreas func() ([]string, error)
	// MemoryLocked says that the driver's own memory is kept from swap. Where it is not, no key is fetched while swap is on.
	MemoryLocked bool
	// Log takes a line for each key that was mounted, and the Server's for each call that failed.
	Log logr.Logger
}

// Driver is the CSI driver of one node.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer

	options Options
	targets targetLocks
}

// New returns a driver.
func New(options Options) *Driver { return &Driver{options: options} }

// GetPluginInfo names the driver.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: v1alpha1.CSIDriverName, VendorVersion: d.options.Version}, nil
}

// GetPluginCapabilities says that there is no controller service: inline volumes need none.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

// Probe says that the driver is ready. It does not depend on the key service, without which volumes are still torn down.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// NodeGetCapabilities lists none: no staging, no statistics, no expansion.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodeGetInfo names the node.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.options.NodeName}, nil
}
