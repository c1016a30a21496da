package nodedriver

import (
	"testing"

	"github.com/moby/sys/mountinfo"
)

// TestMountsOfSubPathsAreNoVolumes: a lease that nobody renews there would wipe the key of the volume.
func TestMountsOfSubPathsAreNoVolumes(t *testing.T) {
	const pod = "/var/lib/kubelet/pods/2b1e8c4e-6d0a-4a36-9f0e-0d6d5c1e7a11/"
	for name, test := range map[string]struct {
		root, mountpoint string
		want             bool
	}{
		"a volume":               {"/", pod + "volumes/kubernetes.io~csi/modelrights-chat/mount", false},
		"a file of it":           {"/key", pod + "volume-subpaths/modelrights-chat/server/0", true},
		"all of it as a subPath": {"/", pod + "volume-subpaths/modelrights-chat/server/0", true},
		"another part of it":     {"/key", "/var/lib/kubelet/elsewhere", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isPart(&mountinfo.Info{Root: test.root, Mountpoint: test.mountpoint}); got != test.want {
				t.Errorf("a part: %t", got)
			}
		})
	}
}
