package nodedriver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr/funcr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

const (
	kubeletDir = "/var/lib/kubelet"
	target     = kubeletDir + "/pods/uid-1/volumes/kubernetes.io~csi/modelrights-acme/mount"
	tokenOfPod = "pod-token-SECRETTOKEN"
	secretKey  = "AGE-SECRET-KEY-SECRETKEY\n"
)

var errBroken = errors.New("broken")

// fakeMounts are mounts in memory: a stack of filesystems for each target that exists.
type fakeMounts struct {
	mu      sync.Mutex
	stacks  map[string][]fakeMount
	noSwap  bool
	fail    map[string]error // by method
	changes int
	wiped   int
}

type fakeMount struct {
	ours   bool
	noSwap bool
	files  map[string]string
}

func (m *fakeMounts) Look(target string) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail["Look"]; err != nil {
		return NothingMounted, err
	}
	stack := m.stacks[target]
	switch {
	case len(stack) == 0:
		return NothingMounted, nil
	case !stack[len(stack)-1].ours:
		return ForeignMounted, nil
	case stack[len(stack)-1].files[v1alpha1.KeyFileName] == "":
		return OursMounted, nil
	}
	return KeyMounted, nil
}

func (m *fakeMounts) NoSwap() (bool, error) { return m.noSwap, m.fail["NoSwap"] }

func (m *fakeMounts) Attach(target string, files map[string][]byte, noSwap bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	if err := m.fail["Attach"]; err != nil {
		return err
	}
	mount := fakeMount{ours: true, noSwap: noSwap, files: map[string]string{}}
	for name, content := range files {
		mount.files[name] = string(content)
	}
	m.stacks[target] = append(m.stacks[target], mount)
	return nil
}

func (m *fakeMounts) DetachAll(target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	if err := m.fail["DetachAll"]; err != nil {
		return err
	}
	stack := m.stacks[target]
	for len(stack) > 0 && stack[len(stack)-1].ours {
		stack = stack[:len(stack)-1]
	}
	if len(stack) > 0 {
		return errors.New("another filesystem is mounted")
	}
	if _, exists := m.stacks[target]; exists {
		m.stacks[target] = nil
	}
	return nil
}

func (m *fakeMounts) Remove(target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail["Remove"]; err != nil {
		return err
	}
	if len(m.stacks[target]) > 0 {
		return errors.New("busy")
	}
	delete(m.stacks, target)
	return nil
}

func (m *fakeMounts) Held(directory string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var targets []string
	for target, stack := range m.stacks {
		if strings.HasPrefix(target, directory+"/") && len(stack) > 0 && stack[len(stack)-1].ours {
			targets = append(targets, target)
		}
	}
	return targets, m.fail["Held"]
}

func (m *fakeMounts) Read(target, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stack := m.stacks[target]
	if err := m.fail["Read"]; err != nil || len(stack) == 0 {
		return nil, err
	}
	content, ok := stack[len(stack)-1].files[name]
	if !ok {
		return nil, nil
	}
	return []byte(content), nil
}

func (m *fakeMounts) Rewrite(target string, files map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stack := m.stacks[target]
	if err := m.fail["Rewrite"]; err != nil || len(stack) == 0 {
		return errors.Join(err, errors.New("not done"))
	}
	if stack[len(stack)-1].files == nil {
		stack[len(stack)-1].files = map[string]string{}
	}
	for name, content := range files {
		if err := m.fail["Rewrite "+name]; err != nil {
			return err
		}
		stack[len(stack)-1].files[name] = string(content)
	}
	return nil
}

func (m *fakeMounts) Wipe(target, but string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stack := m.stacks[target]
	if err := m.fail["Wipe"]; err != nil || len(stack) == 0 {
		return errors.Join(err, errors.New("not done"))
	}
	m.wiped++
	for name := range stack[len(stack)-1].files {
		if name != but {
			stack[len(stack)-1].files[name] = ""
		}
	}
	return nil
}

// fakeBoot is a boot clock that is set by hand.
type fakeBoot struct {
	mu  sync.Mutex
	id  string
	now time.Duration
}

func (b *fakeBoot) ID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.id
}

func (b *fakeBoot) Now() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *fakeBoot) step(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now += d
}

// fakeKeys is a key service. It hands out secretKey for an hour, and renews, unless it has an error.
type fakeKeys struct {
	// lease is the lease that it gives, in seconds.
	lease int64
	// verdict is what it says to renewals, renewErr and reportErr what it fails with.
	verdict             protocol.RenewResponse
	renewErr, reportErr error
	renewals            []protocol.RenewRequest
	reports             []protocol.ReportRequest
	calls               []string
	mu                  sync.Mutex
	requests            []protocol.ReleaseRequest
	err                 error
	handed              []*protocol.ReleaseResponse
	// during is called while a call is answered.
	during func()
}

func (k *fakeKeys) Release(_ context.Context, r *protocol.ReleaseRequest) (*protocol.ReleaseResponse, error) {
	if k.during != nil {
		k.during()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests = append(k.requests, *r)
	k.calls = append(k.calls, "release")
	if k.err != nil {
		return nil, k.err
	}
	response := &protocol.ReleaseResponse{Files: map[string][]byte{v1alpha1.KeyFileName: []byte(secretKey)}, LeaseSeconds: k.lease}
	k.handed = append(k.handed, response)
	return response, nil
}

func (k *fakeKeys) Renew(_ context.Context, r *protocol.RenewRequest) (*protocol.RenewResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renewals = append(k.renewals, *r)
	k.calls = append(k.calls, "renew")
	if k.renewErr != nil {
		return nil, k.renewErr
	}
	answer := k.verdict
	return &answer, nil
}

func (k *fakeKeys) Report(_ context.Context, r *protocol.ReportRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reports = append(k.reports, *r)
	k.calls = append(k.calls, "report "+string(r.Event))
	return k.reportErr
}

// rig is a driver and what it works with.
type rig struct {
	boot   *fakeBoot
	dir    string
	mounts *fakeMounts
	keys   *fakeKeys
	swaps  []string
	swap   error
	locked bool
	log    *bytes.Buffer
	mu     sync.Mutex
}

func newRig() *rig {
	return &rig{
		mounts: &fakeMounts{stacks: map[string][]fakeMount{}, noSwap: true, fail: map[string]error{}},
		keys:   &fakeKeys{lease: 3600, verdict: protocol.RenewResponse{Verdict: protocol.Renewed, LeaseSeconds: 3600}},
		boot:   &fakeBoot{id: "boot-1", now: 1000 * time.Second},
		locked: true, log: &bytes.Buffer{},
	}
}

// driver starts the driver anew, as after a restart.
func (r *rig) driver() *Driver {
	return New(Options{
		NodeName: "node-a", KubeletDir: kubeletDir, Version: "test", Keys: r.keys, Mounts: r.mounts,
		SwapAreas: func() ([]string, error) { return r.swaps, r.swap }, MemoryLocked: r.locked,
		Boot: r.boot, ReportDir: r.dir,
		Log: funcr.NewJSON(func(line string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.log.WriteString(line + "\n")
		}, funcr.Options{Verbosity: 9}),
	})
}

// logged lists the lines of the log that hold a text.
func (r *rig) logged(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(strings.Split(r.log.String(), "\n"), func(line string) bool { return !strings.Contains(line, text) })
}

// publishRequest is kubelet's call for an inline volume, with tokens in the secrets.
func publishRequest() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-1234", TargetPath: target, Readonly: true,
		VolumeCapability: &csi.VolumeCapability{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		},
		VolumeContext: map[string]string{
			"license":                                "acme",
			contextEphemeral:                         "true",
			contextPodName:                           "llm-0",
			contextPodNamespace:                      "ml-prod",
			contextPodUID:                            "uid-1",
			"csi.storage.k8s.io/serviceAccount.name": "llm-server",
		},
		Secrets: map[string]string{contextTokens: tokenList(tokenOfPod)},
	}
}

func tokenList(token string) string {
	return fmt.Sprintf(`{"modelrights.dev/pod": {"token": %q, "expirationTimestamp": "2026-12-01T12:00:00Z"}, "other": {"token": "other-SECRETTOKEN"}}`, token)
}

// mounted lists the targets at which something is mounted, with how much.
func (r *rig) mounted() map[string]int {
	r.mounts.mu.Lock()
	defer r.mounts.mu.Unlock()
	n := map[string]int{}
	for t, stack := range r.mounts.stacks {
		if len(stack) > 0 {
			n[t] = len(stack)
		}
	}
	return n
}

// noSecrets fails the test where a key or a token was logged or told, or a key is left in the driver's memory.
func (r *rig) noSecrets(t *testing.T, told ...error) {
	t.Helper()
	texts := []string{r.log.String()}
	for _, err := range told {
		texts = append(texts, fmt.Sprint(err))
	}
	for _, text := range texts {
		if strings.Contains(text, "SECRET") {
			t.Errorf("a key or a token is told: %s", text)
		}
	}
	for _, response := range r.keys.handed {
		for _, content := range slices.Collect(maps.Values(response.Files)) {
			if len(bytes.Trim(content, "\x00")) > 0 {
				t.Error("a key is left in memory")
			}
		}
	}
}

func unpublishRequest() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1234", TargetPath: target}
}

// pickyKeys does not believe that one pod has ended.
type pickyKeys struct {
	*fakeKeys
	runs string
}

func (k pickyKeys) Report(ctx context.Context, r *protocol.ReportRequest) error {
	if r.Volume.PodUID == k.runs {
		return &protocol.Error{Reason: v1alpha1.ReasonPodRuns, Message: "not yet", Temporary: true}
	}
	return k.fakeKeys.Report(ctx, r)
}
