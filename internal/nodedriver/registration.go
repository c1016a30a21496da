package nodedriver

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/go-logr/logr"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// registrar tells kubelet of the driver. Kubelet finds it by its socket, also when kubelet starts after the driver.
type registrar struct {
	registration.UnimplementedRegistrationServer

	endpoint string
	log      logr.Logger
	// refusal is what kubelet said when it last refused the driver; nil after it accepted.
	refusal atomic.Pointer[string]
}

// GetInfo says that this is a CSI driver, and where it is.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:     registration.CSIPlugin,
		Name:     v1alpha1.CSIDriverName,
		Endpoint: r.endpoint,
		// The version of CSI, not of the driver.
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus is told what became of it. Kubelet tries again by itself after a refusal.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		r.refusal.Store(nil)
		r.log.Info("Registered with kubelet")
	} else {
		why := status.GetError()
		r.refusal.Store(&why)
		r.log.Info("Kubelet refused the driver", "error", why)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (r *registrar) refused() error {
	if why := r.refusal.Load(); why != nil {
		return fmt.Errorf("kubelet refused the driver: %s", *why)
	}
	return nil
}
