package nodedriver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// running is a server on real sockets.
type running struct {
	*Server
	sockets Sockets
	stop    func() error
}

func (r *rig) run(t *testing.T, dir string) *running {
	t.Helper()
	sockets := Sockets{CSI: filepath.Join(dir, "plugins", "csi.sock"), Registration: RegistrationSocket(filepath.Join(dir, "reg"))}
	s, err := NewServer(r.driver(), sockets, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var result error
	stopped := false
	stop := func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	gomega.NewWithT(t).Eventually(s.Ready).WithTimeout(time.Minute).Should(gomega.Succeed())
	return &running{s, sockets, stop}
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// shortDir is a directory whose sockets' paths stay within 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestServedToKubelet(t *testing.T) {
	r, dir := newRig(), shortDir(t)
	s := r.run(t, dir)

	kubelet := registration.NewRegistrationClient(dial(t, s.sockets.Registration))
	info, err := kubelet.GetInfo(t.Context(), &registration.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if info.GetType() != registration.CSIPlugin || info.GetName() != v1alpha1.CSIDriverName || info.GetEndpoint() != s.sockets.CSI {
		t.Errorf("registers as %v", info)
	}
	node := csi.NewNodeClient(dial(t, info.GetEndpoint()))
	if got, err := node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{}); err != nil || got.GetNodeId() != "node-a" {
		t.Errorf("node %v, %v", got, err)
	}
	if got, err := node.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{}); err != nil || len(got.GetCapabilities()) != 0 {
		t.Errorf("capabilities %v, %v", got, err)
	}
	if _, err := node.NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Errorf("publish: %v", err)
	}
	bad := publishRequest()
	bad.TargetPath = kubeletDir + "/pods/other/mount"
	bad.VolumeContext["more"] = "x"
	if _, err := node.NodePublishVolume(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
		t.Errorf("publish with a bad attribute: %v", err)
	}
	r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonNoGrant, Message: "no grant"}
	refused := publishRequest()
	refused.TargetPath = kubeletDir + "/pods/refused/mount"
	if _, err := node.NodePublishVolume(t.Context(), refused); status.Code(err) != codes.PermissionDenied {
		t.Errorf("publish without a grant: %v", err)
	}
	if lines := r.logged("no grant"); len(lines) != 1 || !strings.Contains(lines[0], `"pod":"llm-0"`) {
		t.Errorf("a refusal must be logged once, with its pod: %q", lines)
	}
	if _, err := node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("stage: %v", err)
	}
	for _, socket := range []string{s.sockets.CSI, s.sockets.Registration} {
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket %s: %v, %v", socket, info.Mode(), err)
		}
	}

	if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{Error: "no such version"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "no such version") {
		t.Errorf("ready although kubelet refused: %v", err)
	}
	if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("not ready although registered: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if s.Ready() == nil {
		t.Error("ready after it was stopped")
	}
	r.noSecrets(t)
}

// A driver that was killed leaves its sockets; the next one takes their place.
func TestStaleSockets(t *testing.T) {
	r, dir := newRig(), shortDir(t)
	for _, path := range []string{filepath.Join(dir, "plugins", "csi.sock"), RegistrationSocket(filepath.Join(dir, "reg"))} {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := r.run(t, dir)
	if _, err := csi.NewIdentityClient(dial(t, s.sockets.CSI)).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
		t.Error(err)
	}
}

// Somebody cleans kubelet's plugin directory: the probe says so, and the restart that follows registers anew.
func TestSocketRemoved(t *testing.T) {
	r, dir := newRig(), shortDir(t)
	s := r.run(t, dir)
	if err := s.Alive(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.sockets.Registration); err != nil {
		t.Fatal(err)
	}
	if s.Alive() == nil || s.Ready() == nil {
		t.Error("alive without its registration socket")
	}
}

func TestSocketCannotBeMade(t *testing.T) {
	r, dir := newRig(), shortDir(t)
	long := filepath.Join(dir, strings.Repeat("x", 120), "csi.sock")
	s, err := NewServer(r.driver(), Sockets{CSI: long, Registration: RegistrationSocket(dir)}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "csi.sock") {
		t.Errorf("error %v must name the socket", err)
	}
	_, err = os.Stat(RegistrationSocket(dir))
	if err == nil {
		t.Error("registered without a socket to call")
	}
}
