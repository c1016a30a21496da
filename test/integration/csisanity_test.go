package integration

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/internal/nodedriver"
)

// The CSI community's own suite against the node driver, with real mounts. The suite knows only drivers that make volumes,
// so a controller that exists for this test makes some, whose context is what kubelet says of an inline volume. The
// specs of services that the driver does not have skip themselves.
var _ = Describe("CSI sanity", Ordered, ContinueOnFailure, func() {
	config := sanity.NewTestConfig()

	BeforeAll(func(ctx SpecContext) {
		requireRoot()
		n := newTestNode()
		config.TargetPath = filepath.Join(n.dir, "mount")
		config.StagingPath = filepath.Join(n.dir, "staging")
		config.Address = filepath.Join(n.dir, "csi.sock")

		server := grpc.NewServer()
		csi.RegisterNodeServer(server, n.driver())
		csi.RegisterIdentityServer(server, identityWithController{n.driver()})
		csi.RegisterControllerServer(server, &testController{volumes: map[string]*csi.Volume{}})
		listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", config.Address)
		Expect(err).NotTo(HaveOccurred())
		go func() {
			defer GinkgoRecover()
			Expect(server.Serve(listener)).To(Succeed())
		}()
		DeferCleanup(server.Stop)
	})

	tests := sanity.GinkgoTest(&config)
	AfterAll(tests.Finalize)
	AfterEach(func() {
		Expect(os.RemoveAll(config.StagingPath)).To(Succeed())
	})
})

// identityWithController is the driver's identity, but for the claim that there is a controller, without which the
// suite does not call the node service.
type identityWithController struct{ *nodedriver.Driver }

func (identityWithController) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{Type: &csi.PluginCapability_Service_{
		Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE},
	}}}}, nil
}

// testController makes volumes out of nothing.
type testController struct {
	csi.UnimplementedControllerServer
	mu      sync.Mutex
	volumes map[string]*csi.Volume // by ID, which is the name
}

func (c *testController) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
			Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		}},
	}}}, nil
}

func (c *testController) CreateVolume(_ context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if req.GetName() == "" || len(req.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "name or capabilities are missing")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	size := req.GetCapacityRange().GetRequiredBytes()
	if v, ok := c.volumes[req.GetName()]; ok {
		if v.GetCapacityBytes() != size {
			return nil, status.Error(codes.AlreadyExists, "of another size")
		}
		return &csi.CreateVolumeResponse{Volume: v}, nil
	}
	v := &csi.Volume{VolumeId: req.GetName(), CapacityBytes: size, VolumeContext: inlineContext()}
	c.volumes[v.GetVolumeId()] = v
	return &csi.CreateVolumeResponse{Volume: v}, nil
}

func (c *testController) DeleteVolume(_ context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume is missing")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.volumes, req.GetVolumeId())
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *testController) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if req.GetVolumeId() == "" || len(req.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume or capabilities are missing")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.volumes[req.GetVolumeId()]; !ok {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeCapabilities: req.GetVolumeCapabilities(),
	}}, nil
}
