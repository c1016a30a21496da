package nodedriver

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

func TestPublish(t *testing.T) {
	r := newRig()
	if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatal(err)
	}
	mounted := r.mounts.stacks[target]
	if len(mounted) != 1 || !mounted[0].ours || !mounted[0].noSwap || mounted[0].files["key"] != secretKey || len(mounted[0].files) != 2 {
		t.Errorf("mounted %+v", r.mounts.stacks)
	}
	wantAsked := []protocol.ReleaseRequest{{PodToken: tokenOfPod, Volume: protocol.Volume{
		PodNamespace: "ml-prod", PodName: "llm-0", PodUID: "uid-1", License: "acme", Handle: "csi-1234",
	}}}
	if !reflect.DeepEqual(r.keys.requests, wantAsked) {
		t.Errorf("asked %+v, want %+v", r.keys.requests, wantAsked)
	}
	r.noSecrets(t)
}

// API servers before 1.35, and CSIDrivers without serviceAccountTokenInSecrets, put the tokens into the context.
func TestPublishWithTokensInContext(t *testing.T) {
	r := newRig()
	req := publishRequest()
	req.VolumeContext[contextTokens], req.Secrets = req.Secrets[contextTokens], nil
	if _, err := r.driver().NodePublishVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := r.keys.requests[0].PodToken; got != tokenOfPod {
		t.Errorf("asked with token %q", got)
	}
	r.noSecrets(t)
}

func TestPublishRefused(t *testing.T) {
	tests := map[string]struct {
		change func(*rig, *csi.NodePublishVolumeRequest)
		code   codes.Code
		says   string
		// asked is set where the key service is asked before the refusal.
		asked bool
		// left is how many filesystems are at the target afterwards.
		left int
	}{
		"no volume ID":  {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeId = "" }, code: codes.InvalidArgument},
		"no target":     {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.TargetPath = "" }, code: codes.InvalidArgument},
		"no capability": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeCapability = nil }, code: codes.InvalidArgument},
		"block device": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) {
			q.VolumeCapability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		}, code: codes.InvalidArgument, says: "block device"},
		"no context": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeContext = nil }, code: codes.InvalidArgument, says: "inline"},
		"persistent volume": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeContext[contextEphemeral] = "false" },
			code: codes.InvalidArgument, says: "PersistentVolume"},
		"no licence": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { delete(q.VolumeContext, "license") },
			code: codes.InvalidArgument, says: "license"},
		"more attributes": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeContext["mode"] = "0777" },
			code: codes.InvalidArgument, says: `"mode"`},
		"no pod": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { delete(q.VolumeContext, contextPodUID) },
			code: codes.InvalidArgument, says: "podInfoOnMount"},
		"no tokens": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.Secrets = nil },
			code: codes.InvalidArgument, says: "tokenRequests"},
		"tokens of other audiences": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) {
			q.Secrets[contextTokens] = `{"other": {"token": "SECRETTOKEN"}}`
		}, code: codes.InvalidArgument, says: "modelrights.dev/pod"},
		"tokens that are no JSON": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.Secrets[contextTokens] = "SECRETTOKEN" },
			code: codes.InvalidArgument},
		"target elsewhere": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.TargetPath = "/etc/mount" },
			code: codes.InvalidArgument, says: "--kubelet-dir"},
		"target that climbs out": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.TargetPath = kubeletDir + "/../../../etc" },
			code: codes.InvalidArgument, says: "--kubelet-dir"},
		"target relative": {change: func(_ *rig, q *csi.NodePublishVolumeRequest) { q.TargetPath = "pods/x" },
			code: codes.InvalidArgument, says: "--kubelet-dir"},
		"something else is mounted there": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.mounts.stacks[target] = []fakeMount{{}}
		}, code: codes.FailedPrecondition, says: "another filesystem", left: 1},
		"mounts cannot be listed": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.fail["Look"] = errBroken }, code: codes.Internal},

		"swap is on and noswap unknown": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.mounts.noSwap, r.swaps = false, []string{"/dev/sda2"}
		}, code: codes.FailedPrecondition, says: "/dev/sda2"},
		"swap is on and the driver's memory not locked": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.locked, r.swaps = false, []string{"/dev/sda2"}
		}, code: codes.FailedPrecondition, says: "could not lock its memory"},
		"swap cannot be told and the driver's memory is not locked": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.locked, r.swap = false, errBroken
		}, code: codes.Internal},
		"swap cannot be told": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.mounts.noSwap, r.swap = false, errBroken
		}, code: codes.Internal},
		"noswap cannot be told": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.fail["NoSwap"] = errBroken }, code: codes.Internal},

		"refused": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonNoGrant, Message: "no grant", Remedy: "ask for one"}
		}, code: codes.PermissionDenied, says: "NoGrant: no grant; ask for one", asked: true},
		"caller refused": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonUnauthenticated, Message: "who"}
		}, code: codes.Unauthenticated, says: "Unauthenticated: who", asked: true},
		"no key": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonKeySecretMissing, Message: "no Secret"}
		}, code: codes.FailedPrecondition, says: "no Secret", asked: true},
		"service down": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonKeyServiceUnreachable, Message: "no answer", Temporary: true}
		}, code: codes.Unavailable, says: "KeyServiceUnreachable: no answer", asked: true},
		"an error of another kind": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) { r.keys.err = errBroken },
			code: codes.Internal, asked: true},

		"cannot mount": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.fail["Attach"] = errBroken },
			code: codes.Internal, asked: true},
		"remains cannot be removed": {change: func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.fail["DetachAll"] = errBroken },
			code: codes.Internal, asked: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			req := publishRequest()
			tc.change(r, req)
			_, err := r.driver().NodePublishVolume(t.Context(), req)
			if status.Code(err) != tc.code || !strings.Contains(status.Convert(err).Message(), tc.says) {
				t.Errorf("%v, want code %v and %q", err, tc.code, tc.says)
			}
			if asked := len(r.keys.requests) > 0; asked != tc.asked {
				t.Errorf("key service asked: %v, want %v", asked, tc.asked)
			}
			if got := r.mounted(); len(got) != tc.left {
				t.Errorf("left mounted: %v", got)
			}
			r.noSecrets(t, err)
		})
	}
}

// Without noswap the key is mounted where nothing is swapped to.
func TestPublishWithoutSwap(t *testing.T) {
	r := newRig()
	r.mounts.noSwap = false
	if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatal(err)
	}
	if r.mounts.stacks[target][0].noSwap {
		t.Error("noswap was asked of a kernel that does not know it")
	}
}

// Without swap, the driver's memory need not be locked, and the tmpfs is noswap all the same.
func TestPublishFromUnlockedMemory(t *testing.T) {
	r := newRig()
	r.locked = false
	if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatal(err)
	}
	if !r.mounts.stacks[target][0].noSwap {
		t.Error("the tmpfs is not noswap")
	}
}

// With noswap and locked memory, swap on the node does not matter.
func TestPublishWithSwapKeptOut(t *testing.T) {
	r := newRig()
	r.swaps = []string{"/swapfile"}
	if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatal(err)
	}
}

// Kubelet gave up while the key was on its way: nothing is mounted behind its back.
func TestPublishGivenUp(t *testing.T) {
	r := newRig()
	ctx, cancel := context.WithCancel(t.Context())
	r.keys.during = cancel
	_, err := r.driver().NodePublishVolume(ctx, publishRequest())
	if status.Code(err) != codes.Canceled || len(r.mounted()) != 0 {
		t.Errorf("error %v, mounted %v", err, r.mounted())
	}
	r.noSecrets(t, err)
}

// Whatever is wrong by now, a volume that holds its key is left alone, nobody is asked, and no error is returned.
func TestRepublish(t *testing.T) {
	tests := map[string]func(*rig, *csi.NodePublishVolumeRequest){
		"as before":    func(*rig, *csi.NodePublishVolumeRequest) {},
		"service down": func(r *rig, _ *csi.NodePublishVolumeRequest) { r.keys.err = errBroken },
		"right revoked": func(r *rig, _ *csi.NodePublishVolumeRequest) {
			r.keys.err = &protocol.Error{Reason: v1alpha1.ReasonNoGrant}
		},
		"no token":         func(_ *rig, q *csi.NodePublishVolumeRequest) { q.Secrets = nil },
		"garbage as token": func(_ *rig, q *csi.NodePublishVolumeRequest) { q.Secrets[contextTokens] = "{{" },
		"no context":       func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeContext = nil },
		"other context":    func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeContext["new"] = "attribute" },
		"no capability":    func(_ *rig, q *csi.NodePublishVolumeRequest) { q.VolumeCapability = nil },
		"swap turned on":   func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.noSwap, r.swaps = false, []string{"/swapfile"} },
		"cannot mount":     func(r *rig, _ *csi.NodePublishVolumeRequest) { r.mounts.fail["Attach"] = errBroken },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
				t.Fatal(err)
			}
			changes := r.mounts.changes
			req := publishRequest()
			change(r, req)
			restarted := r.driver()
			for range 3 {
				if _, err := restarted.NodePublishVolume(t.Context(), req); err != nil {
					t.Errorf("republish failed: %v", err)
				}
			}
			if len(r.keys.requests) != 1 {
				t.Errorf("the key service was asked %d times", len(r.keys.requests))
			}
			if r.mounts.changes != changes || r.mounted()[target] != 1 {
				t.Errorf("the mounts were touched: %v", r.mounted())
			}
		})
	}
}

// A tmpfs of ours that lost its key is replaced.
func TestPublishOverRemains(t *testing.T) {
	r := newRig()
	r.mounts.stacks[target] = []fakeMount{{ours: true}, {ours: true}}
	if _, err := r.driver().NodePublishVolume(t.Context(), publishRequest()); err != nil {
		t.Fatal(err)
	}
	if got := r.mounts.stacks[target]; len(got) != 1 || got[0].files["key"] != secretKey {
		t.Errorf("mounted: %+v", got)
	}
}

// Kubelet repeats calls that took too long: the second waits for the first, and one key is mounted.
func TestPublishAtTheSameTime(t *testing.T) {
	r := newRig()
	d := r.driver()
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := d.NodePublishVolume(t.Context(), publishRequest())
			results <- err
		}()
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(r.keys.requests) != 1 || r.mounted()[target] != 1 {
		t.Errorf("asked %d times, mounted %v", len(r.keys.requests), r.mounted())
	}
	d.background.Wait()
	if len(d.targets.held) != 0 {
		t.Errorf("%d locks are left", len(d.targets.held))
	}
}

func TestPublishWaitingInVain(t *testing.T) {
	r := newRig()
	d := r.driver()
	inside, leave := make(chan struct{}), make(chan struct{})
	r.keys.during = func() { close(inside); <-leave }
	first := make(chan error)
	go func() {
		_, err := d.NodePublishVolume(t.Context(), publishRequest())
		first <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1234", TargetPath: target}); status.Code(err) != codes.Aborted {
		t.Errorf("%v, want Aborted", err)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestUnpublish(t *testing.T) {
	tests := map[string]struct {
		before map[string][]fakeMount
		fail   string
		change func(*csi.NodeUnpublishVolumeRequest)
		code   codes.Code
	}{
		"mounted":           {before: map[string][]fakeMount{target: {{ours: true, files: map[string]string{"key": "k"}}}}},
		"mounted twice":     {before: map[string][]fakeMount{target: {{ours: true}, {ours: true}}}},
		"directory alone":   {before: map[string][]fakeMount{target: nil}},
		"nothing":           {},
		"another's mount":   {before: map[string][]fakeMount{target: {{}}}, code: codes.Internal},
		"cannot be removed": {fail: "Remove", code: codes.Internal},
		"no volume ID":      {change: func(q *csi.NodeUnpublishVolumeRequest) { q.VolumeId = "" }, code: codes.InvalidArgument},
		"no target":         {change: func(q *csi.NodeUnpublishVolumeRequest) { q.TargetPath = "" }, code: codes.InvalidArgument},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			r.keys.err = errBroken
			if tc.before != nil {
				r.mounts.stacks = tc.before
			}
			if tc.fail != "" {
				r.mounts.fail[tc.fail] = errBroken
			}
			d := r.driver()
			for range 2 {
				req := &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1234", TargetPath: target}
				if tc.change != nil {
					tc.change(req)
				}
				if _, err := d.NodeUnpublishVolume(t.Context(), req); status.Code(err) != tc.code {
					t.Errorf("%v, want %v", err, tc.code)
				}
			}
			if _, exists := r.mounts.stacks[target]; exists && tc.code == codes.OK {
				t.Error("the target is still there")
			}
			if len(r.keys.requests) != 0 {
				t.Error("the key service was asked")
			}
		})
	}
}

// Twenty restarts under a running pod, each followed by republishes: one mount, one key asked for, and none left in the end.
func TestRestarts(t *testing.T) {
	r := newRig()
	for range 20 {
		d := r.driver()
		for range 3 {
			if _, err := d.NodePublishVolume(t.Context(), publishRequest()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.keys.requests) != 1 || r.mounted()[target] != 1 {
		t.Errorf("asked %d times, mounted %v", len(r.keys.requests), r.mounted())
	}
	if _, err := r.driver().NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-1234", TargetPath: target}); err != nil {
		t.Fatal(err)
	}
	if got := r.mounted(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
