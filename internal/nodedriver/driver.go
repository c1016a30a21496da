// Package nodedriver is the CSI driver that brings keys into pods: the identity and node services of CSI, and the
// registration with kubelet. It serves inline ephemeral volumes only, asks the key service for each, and mounts a tmpfs
// that holds the key and exists for one pod alone. Beside each key lies its lease, which it renews whenever kubelet
// comes by, and at whose end it wipes the key. It needs no access to the Kubernetes API.
package nodedriver

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/limit"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// KeyService releases keys and decides how long they stay: *client.Client.
type KeyService interface {
	// Release returns the files of a volume, which the caller wipes. Every error is a *protocol.Error.
	Release(ctx context.Context, request *protocol.ReleaseRequest) (*protocol.ReleaseResponse, error)

	// Renew says whether a key may stay. After an error nothing is known.
	Renew(ctx context.Context, request *protocol.RenewRequest) (*protocol.RenewResponse, error)

	// Report tells of the end of a key. Every error is a *protocol.Error.
	Report(ctx context.Context, request *protocol.ReportRequest) error
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
	// Boot is the time by which leases are over: LinuxBootClock.
	Boot BootClock
	// ReportDir is a directory that outlives the driver, for what the key service is still to be told. It holds no secrets
	// and is created when it is needed. Where it is empty, reports that were not delivered end with the driver.
	ReportDir string
	// Log takes a line for each key that was mounted, and the Server's for each call that failed.
	Log logr.Logger
}

// Driver is the CSI driver of one node.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer

	options Options
	targets targetLocks
	leases  *leases
	reports *reports
	metrics *metrics

	// background are the renewals that kubelet does not wait for; stopping ends them.
	background sync.WaitGroup
	stopping   context.Context
	stop       context.CancelFunc

	// earlyOfTarget and earlyOfNamespace count what is asked for when it was not due.
	earlyOfTarget, earlyOfNamespace *limit.Rates[string]

	mu       sync.Mutex
	renewals map[string]*renewal // by target
	pauses   map[string]pause    // by target
}

// New returns a driver. Keys are mounted without Run, but no lease ends and nothing is reported.
func New(options Options) *Driver {
	d := &Driver{
		options: options, leases: newLeases(), metrics: newMetrics(),
		earlyOfTarget:    limit.NewRates[string](earlyOfTarget, maxEarly),
		earlyOfNamespace: limit.NewRates[string](earlyOfNamespace, maxEarly),
		renewals:         map[string]*renewal{}, pauses: map[string]pause{},
	}
	d.reports = newReports(options.ReportDir, options.Boot, options.Log)
	d.stopping, d.stop = context.WithCancel(context.Background())
	return d
}

// Run ends leases and delivers reports until the context ends.
func (d *Driver) Run(ctx context.Context) {
	if err := d.recoverLeases(); err != nil {
		d.options.Log.Error(err, "Keys of an earlier run are found only when kubelet next calls for them")
	}
	var loops sync.WaitGroup
	loops.Go(func() { repeat(ctx, d.leases.changed, d.enforce) })
	courier := &courier{driver: d}
	loops.Go(func() { repeat(ctx, d.reports.added, courier.deliver) })
	loops.Wait()
	d.stop()
	d.background.Wait()
}

// repeat runs something again after the time that it returns, or sooner if it is woken, until the context ends.
func repeat(ctx context.Context, wake <-chan struct{}, run func(context.Context) time.Duration) {
	for {
		timer := time.NewTimer(run(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

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
