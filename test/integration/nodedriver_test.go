package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/nodedriver"
)

// The node driver's mounts, on the kernel.
var _ = Describe("Node driver", func() {
	var (
		n      *testNode
		target string
	)

	BeforeEach(func() {
		requireRoot()
		n = newTestNode()
		target = filepath.Join(n.dir, "mount")
	})

	keyFile := func() string { return filepath.Join(target, v1alpha1.KeyFileName) }

	It("mounts a key that every user of the pod can read and nobody can change", func(ctx SpecContext) {
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())

		mounts := mountsAt(target)
		Expect(mounts).To(HaveLen(1))
		Expect(mounts[0].FSType).To(Equal("tmpfs"))
		Expect(mounts[0].Source).To(Equal(v1alpha1.CSIDriverName))
		Expect(strings.Split(mounts[0].Options, ",")).To(ContainElements("ro", "nosuid", "nodev", "noexec"))
		Expect(strings.Split(mounts[0].VFSOptions, ",")).To(ContainElements("size=1024k", "nr_inodes=16", "mode=555"))
		noSwap, err := nodedriver.LinuxMounts{}.NoSwap()
		Expect(err).NotTo(HaveOccurred())
		if noSwap {
			Expect(strings.Split(mounts[0].VFSOptions, ",")).To(ContainElement("noswap"))
		}

		nobody := exec.CommandContext(ctx, "cat", keyFile())
		nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		Expect(nobody.Output()).To(BeEquivalentTo(n.key))
		info, err := os.Stat(keyFile())
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode()).To(Equal(os.FileMode(0o444)))

		Expect(os.WriteFile(keyFile(), []byte("x"), 0o600)).To(MatchError(unix.EROFS))
		Expect(os.Remove(keyFile())).To(MatchError(unix.EROFS))
		Expect(os.WriteFile(filepath.Join(target, "more"), nil, 0o600)).To(MatchError(unix.EROFS))
	})

	It("leaves nothing behind after a pod, however often it was restarted and called", func(ctx SpecContext) {
		for range 20 {
			driver := n.driver()
			for range 3 {
				_, err := driver.NodePublishVolume(ctx, publishAt(target))
				Expect(err).NotTo(HaveOccurred())
			}
			Expect(mountsAt(target)).To(HaveLen(1))
		}
		Expect(n.calls.Load()).To(BeEquivalentTo(1))
		n.service.Close() // teardown needs no key service
		for range 2 {
			_, err := n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(mountsAt(target)).To(BeEmpty())
		Expect(target).NotTo(BeADirectory())
	})

	It("answers a republish with nothing but the mount", func(ctx SpecContext) {
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
		n.service.Close()
		Expect(os.Remove(n.options.TokenFile)).To(Succeed())
		request := publishAt(target)
		request.VolumeContext = nil
		_, err = n.driver().NodePublishVolume(ctx, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.ReadFile(keyFile())).To(BeEquivalentTo(n.key))
	})

	It("mounts nothing while the key service is down, and the key when it is back", func(ctx SpecContext) {
		url := n.options.URL
		n.options.URL = "https://127.0.0.1:1"
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(status.Code(err)).To(Equal(codes.Unavailable))
		Expect(err).To(MatchError(ContainSubstring("the key service cannot be reached")))
		Expect(mountsAt(target)).To(BeEmpty())
		Expect(target).NotTo(BeADirectory())

		n.options.URL = url
		_, err = n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
	})

	It("mounts nothing where the tmpfs cannot take the files", func() {
		mounts := nodedriver.LinuxMounts{}
		Expect(mounts.Attach(target, map[string][]byte{"key": bytes.Repeat([]byte("x"), 2<<20)}, false)).To(MatchError(unix.ENOSPC))
		Expect(mounts.Attach(target, map[string][]byte{"../key": []byte("x")}, false)).NotTo(Succeed())
		Expect(mountsAt(target)).To(BeEmpty())
		Expect(target).NotTo(BeADirectory())
		Expect(filepath.Join(n.dir, "key")).NotTo(BeAnExistingFile())
	})

	It("unmounts although somebody looks at the key", func(ctx SpecContext) {
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
		looking, err := os.Open(keyFile())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(looking.Close)
		_, err = n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).NotTo(HaveOccurred())
		Expect(mountsAt(target)).To(BeEmpty())
	})

	It("leaves the filesystems of others alone", func(ctx SpecContext) {
		Expect(os.Mkdir(target, 0o750)).To(Succeed())
		Expect(unix.Mount("another", target, "tmpfs", 0, "size=64k")).To(Succeed())
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(status.Code(err)).To(Equal(codes.FailedPrecondition))
		Expect(n.calls.Load()).To(BeZero())
		_, err = n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).To(HaveOccurred())
		Expect(mountsAt(target)).To(HaveLen(1))
	})

	It("does not take files for a target", func(ctx SpecContext) {
		Expect(os.WriteFile(target, []byte("precious"), 0o600)).To(Succeed())
		_, err := n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).To(HaveOccurred())
		Expect(target).To(BeARegularFile())
	})

	It("knows its mount where kubelet's directory is a symbolic link", func(ctx SpecContext) {
		actual := filepath.Join(n.dir, "real")
		Expect(os.Mkdir(actual, 0o755)).To(Succeed())
		Expect(os.Symlink(actual, filepath.Join(n.dir, "link"))).To(Succeed())
		target = filepath.Join(n.dir, "link", "mount")
		for range 2 {
			_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(mountsAt(filepath.Join(actual, "mount"))).To(HaveLen(1))
		_, err := n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).NotTo(HaveOccurred())
		Expect(mountsAt(filepath.Join(actual, "mount"))).To(BeEmpty())
	})

	// In a container the driver has a mount of kubelet's directory of its own, with Bidirectional propagation.
	It("mounts read-only on the node, too, where the driver runs in a container", func(ctx SpecContext) {
		node, container := filepath.Join(n.dir, "node"), filepath.Join(n.dir, "container")
		for _, dir := range []string{node, container} {
			Expect(os.Mkdir(dir, 0o755)).To(Succeed())
		}
		Expect(unix.Mount(node, node, "", unix.MS_BIND, "")).To(Succeed())
		Expect(unix.Mount("", node, "", unix.MS_SHARED, "")).To(Succeed())
		Expect(unix.Mount(node, container, "", unix.MS_BIND, "")).To(Succeed())

		target = filepath.Join(container, "mount")
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
		seen := mountsAt(filepath.Join(node, "mount"))
		Expect(seen).To(HaveLen(1))
		Expect(strings.Split(seen[0].Options, ",")).To(ContainElements("ro", "nosuid", "nodev", "noexec"))
		Expect(os.ReadFile(filepath.Join(node, "mount", v1alpha1.KeyFileName))).To(BeEquivalentTo(n.key))

		_, err = n.driver().NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).NotTo(HaveOccurred())
		Expect(mountsAt(filepath.Join(node, "mount"))).To(BeEmpty())
	})

	It("leaves the key to be rewritten in place through another mount of it", func(ctx SpecContext) {
		_, err := n.driver().NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
		tree, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(unix.Close, tree)
		Expect(unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})).To(Succeed())
		fd, err := unix.Openat(tree, v1alpha1.KeyFileName, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
		Expect(err).NotTo(HaveOccurred())
		Expect(unix.Close(fd)).To(Succeed())
		Expect(os.ReadFile(keyFile())).To(BeEmpty())
		Expect(os.WriteFile(keyFile(), []byte("x"), 0o600)).To(MatchError(unix.EROFS))
	})
})
