package integration

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"modelrights.dev/modelrights/api/v1alpha1"
	keyclient "modelrights.dev/modelrights/internal/keyservice/client"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/nodedriver"
)

// requireRoot fails a spec that mounts where it cannot.
func requireRoot() {
	GinkgoHelper()
	Expect(os.Geteuid()).To(BeZero(), "mounting needs root: run make test-integration as root")
}

// testNode is a node as the driver sees it: kubelet's directory, the files of the driver's pod, and a key service over
// real TLS that releases a key to whoever has the right tokens.
type testNode struct {
	dir     string
	key     string
	calls   atomic.Int32
	options keyclient.Options
	service *httptest.Server
	// away has the key service answer nobody.
	away atomic.Bool
	// lease is what keys are released and renewed for, in seconds; verdict is what it says to renewals.
	lease   atomic.Int64
	verdict atomic.Value
	mu      sync.Mutex
	reports []protocol.ReportRequest
}

func newTestNode() *testNode {
	GinkgoHelper()
	// Paths of sockets have at most 107 bytes, so not GinkgoT().TempDir().
	dir, err := os.MkdirTemp("", "mr")
	Expect(err).NotTo(HaveOccurred())
	n := &testNode{dir: dir, key: "AGE-SECRET-KEY-1" + rand.Text() + "\n"}
	DeferCleanup(func() {
		unmountBelow(dir)
		Expect(os.RemoveAll(dir)).To(Succeed())
	})
	// A pod's user comes in from another side, but must be able to read what lies here.
	Expect(os.Chmod(dir, 0o755)).To(Succeed())
	n.lease.Store(3600)
	n.verdict.Store(protocol.Renewed)
	n.service = httptest.NewTLSServer(http.HandlerFunc(n.answer))
	DeferCleanup(n.service.Close)
	n.options = keyclient.Options{URL: n.service.URL, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token")}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.service.Certificate().Raw})
	Expect(os.WriteFile(n.options.CAFile, ca, 0o600)).To(Succeed())
	Expect(os.WriteFile(n.options.TokenFile, []byte("driver-token"), 0o600)).To(Succeed())
	return n
}

func (n *testNode) answer(w http.ResponseWriter, req *http.Request) {
	if n.away.Load() {
		panic(http.ErrAbortHandler)
	}
	var request struct {
		protocol.ReportRequest
		PodToken string `json:"podToken"`
	}
	ok := json.NewDecoder(req.Body).Decode(&request) == nil && req.Header.Get("Authorization") == "Bearer driver-token"
	switch {
	case ok && req.URL.Path == protocol.RenewPath:
		_ = json.NewEncoder(w).Encode(protocol.RenewResponse{Verdict: n.verdict.Load().(protocol.Verdict), LeaseSeconds: n.lease.Load(), Reason: v1alpha1.ReasonNoGrant})
	case ok && req.URL.Path == protocol.ReportPath:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.reports = append(n.reports, request.ReportRequest)
		_ = json.NewEncoder(w).Encode(protocol.ReportResponse{})
	case ok && request.PodToken == "pod-token":
		n.calls.Add(1)
		_ = json.NewEncoder(w).Encode(protocol.ReleaseResponse{Files: map[string][]byte{v1alpha1.KeyFileName: []byte(n.key)}, LeaseSeconds: n.lease.Load()})
	default:
		n.calls.Add(1)
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(&protocol.Error{Reason: v1alpha1.ReasonUnauthenticated, Message: "no"})
	}
}

// told lists what was reported.
func (n *testNode) told() []protocol.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	var events []protocol.Event
	for _, r := range n.reports {
		events = append(events, r.Event)
	}
	return events
}

// run starts the driver anew, with leases that end and reports that are delivered, until it is stopped or the spec is over.
func (n *testNode) run() (driver *nodedriver.Driver, stop func()) {
	GinkgoHelper()
	driver = n.driver()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		driver.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	DeferCleanup(stop)
	return driver, stop
}

// driver starts the driver anew, as after a restart.
func (n *testNode) driver() *nodedriver.Driver {
	GinkgoHelper()
	keys, err := keyclient.New(n.options)
	Expect(err).NotTo(HaveOccurred())
	boot, err := nodedriver.NewLinuxBootClock()
	Expect(err).NotTo(HaveOccurred())
	return nodedriver.New(nodedriver.Options{
		NodeName: "node-a", KubeletDir: n.dir, Version: "test", Keys: keys,
		Mounts: nodedriver.LinuxMounts{}, SwapAreas: nodedriver.ReadSwapAreas,
		Boot: boot, ReportDir: filepath.Join(n.dir, "reports"), Log: GinkgoLogr,
	})
}

// inlineContext is what kubelet says of an inline volume.
func inlineContext() map[string]string {
	return map[string]string{
		v1alpha1.VolumeAttributeLicense:            "acme",
		"csi.storage.k8s.io/ephemeral":             "true",
		"csi.storage.k8s.io/pod.name":              "llm-0",
		"csi.storage.k8s.io/pod.namespace":         "ml-prod",
		"csi.storage.k8s.io/pod.uid":               "uid-1",
		"csi.storage.k8s.io/serviceAccount.name":   "llm-server",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"modelrights.dev/pod": {"token": "pod-token"}}`,
	}
}

// publishAt is kubelet's call.
func publishAt(target string) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-1", TargetPath: target, VolumeContext: inlineContext(),
		VolumeCapability: &csi.VolumeCapability{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		},
	}
}

func unpublishAt(target string) *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: target}
}

// mountsAt lists what is mounted at a path, the lowest first.
func mountsAt(path string) []*mountinfo.Info {
	GinkgoHelper()
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	Expect(err).NotTo(HaveOccurred())
	return all
}

// unmountBelow takes off whatever a failed spec left.
func unmountBelow(dir string) {
	GinkgoHelper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	Expect(err).NotTo(HaveOccurred())
	for i := len(mounts) - 1; i >= 0; i-- {
		_ = unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH)
	}
}
