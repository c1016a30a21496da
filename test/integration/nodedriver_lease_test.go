package integration

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
	"modelrights.dev/modelrights/internal/nodedriver"
)

// Leases of keys, on the kernel: what a running container sees of their end.
var _ = Describe("Node driver's leases", func() {
	var (
		n         *testNode
		target    string
		container string // where the container has the volume
	)

	BeforeEach(func() {
		requireRoot()
		n = newTestNode()
		target, container = filepath.Join(n.dir, "mount"), filepath.Join(n.dir, "rootfs")
	})

	// startContainer publishes the volume and binds it into a container, as the runtime does.
	startContainer := func(ctx SpecContext, driver *nodedriver.Driver) {
		GinkgoHelper()
		_, err := driver.NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Mkdir(container, 0o755)).To(Succeed())
		Expect(unix.Mount(target, container, "", unix.MS_BIND, "")).To(Succeed())
		Expect(unix.Mount("", container, "", unix.MS_PRIVATE, "")).To(Succeed())
	}
	republish := func(ctx SpecContext, driver *nodedriver.Driver) {
		GinkgoHelper()
		_, err := driver.NodePublishVolume(ctx, publishAt(target))
		Expect(err).NotTo(HaveOccurred(), "kubelet was told an error")
	}
	seen := func() string {
		content, err := os.ReadFile(filepath.Join(container, v1alpha1.KeyFileName))
		Expect(err).NotTo(HaveOccurred())
		return string(content)
	}

	It("wipes a refused key wherever the container has it, and puts it back in place", func(ctx SpecContext) {
		driver, _ := n.run()
		startContainer(ctx, driver)
		open, err := os.Open(filepath.Join(container, v1alpha1.KeyFileName))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(open.Close)
		mapped, err := unix.Mmap(int(open.Fd()), 0, len(n.key), unix.PROT_READ, unix.MAP_SHARED)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { Expect(unix.Munmap(mapped)).To(Succeed()) })
		Expect(string(mapped)).To(Equal(n.key))

		n.verdict.Store(protocol.Wipe)
		republish(ctx, driver)
		Eventually(seen).WithPolling(2 * time.Millisecond).Should(BeEmpty())
		Expect(io.ReadAll(io.NewSectionReader(open, 0, 4096))).To(BeEmpty(), "through a descriptor that was open")
		Expect(mountsAt(target)).To(HaveLen(1))
		Expect(os.WriteFile(filepath.Join(container, v1alpha1.KeyFileName), []byte("x"), 0o600)).To(MatchError(unix.EROFS))
		Expect(os.WriteFile(filepath.Join(target, v1alpha1.KeyFileName), []byte("x"), 0o600)).To(MatchError(unix.EROFS))
		Eventually(n.told).Should(HaveExactElements(protocol.Wiped))

		n.verdict.Store(protocol.Renewed)
		republish(ctx, driver)
		Expect(seen()).To(Equal(n.key), "the container sees it again")
		Expect(string(mapped)).To(Equal(n.key))
		Expect(mountsAt(target)).To(HaveLen(1))
	})

	It("leaves zeros where a wiped key lay", func(ctx SpecContext) {
		startContainer(ctx, n.driver())
		open, err := os.Open(filepath.Join(container, v1alpha1.KeyFileName))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(open.Close)
		// A pipe that the file was spliced into refers to its memory, which making it empty would leave as it is.
		var pipe [2]int
		Expect(unix.Pipe2(pipe[:], unix.O_CLOEXEC)).To(Succeed())
		DeferCleanup(unix.Close, pipe[0])
		spliced, err := unix.Splice(int(open.Fd()), nil, pipe[1], nil, len(n.key), 0)
		Expect(err).NotTo(HaveOccurred())
		Expect(unix.Close(pipe[1])).To(Succeed())
		Expect(spliced).To(BeEquivalentTo(len(n.key)))

		Expect(nodedriver.LinuxMounts{}.Wipe(target, "")).To(Succeed())
		Expect(seen()).To(BeEmpty())
		left := make([]byte, len(n.key))
		Expect(unix.Read(pipe[0], left)).To(Equal(len(n.key)))
		Expect(bytes.Trim(left, "\x00")).To(BeEmpty())
	})

	It("ends a lease on time while the key service is away, also where the driver was restarted just before", func(ctx SpecContext) {
		n.lease.Store(3)
		driver, stop := n.run()
		asked := time.Now()
		startContainer(ctx, driver)
		answered := time.Now()
		n.away.Store(true)
		republish(ctx, driver)
		wipedEarly := func() bool {
			wiped := seen() == ""
			return wiped && time.Since(asked) < 3*time.Second
		}
		Consistently(wipedEarly).WithTimeout(2500 * time.Millisecond).WithPolling(10 * time.Millisecond).Should(BeFalse())
		stop()
		driver, _ = n.run()
		Eventually(seen).WithPolling(time.Millisecond).Should(BeEmpty())
		ended := time.Now()
		Expect(ended).To(BeTemporally(">=", asked.Add(3*time.Second)), "not earlier")
		GinkgoWriter.Println("ended", ended.Sub(answered.Add(3*time.Second)), "later than it had to")
		republish(ctx, driver)
		Expect(seen()).To(BeEmpty())

		n.lease.Store(3600) // or it ends once more before the report of this end is taken
		n.away.Store(false)
		Eventually(func() string {
			republish(ctx, driver)
			return seen()
		}).Should(Equal(n.key))
		// The container's mount lies below the driver's directory here, so that the second run has it for a volume too.
		Eventually(func() []protocol.Event { return slices.Compact(n.told()) }).Should(HaveExactElements(protocol.Wiped))
	})

	It("reports the end of a volume after the key service is back, from another run, and once", func(ctx SpecContext) {
		driver, stop := n.run()
		startContainer(ctx, driver)
		n.away.Store(true)
		_, err := driver.NodeUnpublishVolume(ctx, unpublishAt(target))
		Expect(err).NotTo(HaveOccurred())
		Expect(target).NotTo(BeADirectory())
		Expect(seen()).To(BeEmpty(), "whoever still has the volume reads nothing")
		stop()
		waiting, err := filepath.Glob(filepath.Join(n.dir, "reports", "*"))
		Expect(err).NotTo(HaveOccurred())
		Expect(waiting).To(HaveLen(1))
		Expect(os.ReadFile(waiting[0])).NotTo(ContainSubstring(n.key[20:40]))

		n.away.Store(false)
		n.run()
		// What the first run sent last may be read only now, by a slow server.
		told := func() []protocol.Event { return slices.Compact(n.told()) }
		Eventually(told).Should(HaveExactElements(protocol.Unpublished))
		Expect(n.reports[0].Volume).To(Equal(protocol.Volume{PodNamespace: "ml-prod", PodName: "llm-0", PodUID: "uid-1", License: "acme", Handle: "csi-1"}))
		Eventually(func() ([]string, error) { return filepath.Glob(filepath.Join(n.dir, "reports", "*")) }).Should(BeEmpty())
		Expect(len(n.told())).To(BeNumerically("<=", 2))
		Consistently(n.told).WithTimeout(300 * time.Millisecond).Should(HaveLen(len(n.told())))
	})

	It("renews and wipes where the tmpfs takes no byte more", func(ctx SpecContext) {
		driver, _ := n.run()
		startContainer(ctx, driver)
		mounts := nodedriver.LinuxMounts{}
		size := 2 << 20
		Eventually(func() error {
			size /= 2
			if size < 1024 {
				return nil
			}
			return mounts.Rewrite(target, map[string][]byte{"filler": bytes.Repeat([]byte("f"), size)})
		}).Should(Succeed())
		for i := range 300 {
			if mounts.Rewrite(target, map[string][]byte{"filler" + string(rune('a'+i%10)): bytes.Repeat([]byte("f"), 4096*(1+i/10))}) != nil {
				break
			}
		}
		Expect(mounts.Rewrite(target, map[string][]byte{"more": bytes.Repeat([]byte("x"), 1<<20)})).To(MatchError(unix.ENOSPC))
		before, err := mounts.Read(target, ".modelrights-lease")
		Expect(err).NotTo(HaveOccurred())
		republish(ctx, driver)
		Eventually(func() ([]byte, error) { return mounts.Read(target, ".modelrights-lease") }).ShouldNot(Equal(before), "the lease is not renewed")
		n.verdict.Store(protocol.Wipe)
		republish(ctx, driver)
		Eventually(seen).Should(BeEmpty())
	})

	It("finds its mounts again, and no others", func(ctx SpecContext) {
		startContainer(ctx, n.driver())
		other := filepath.Join(n.dir, "other")
		Expect(os.Mkdir(other, 0o750)).To(Succeed())
		Expect(unix.Mount("another", other, "tmpfs", 0, "size=64k")).To(Succeed())
		Expect(nodedriver.LinuxMounts{}.Held(n.dir)).To(ConsistOf(target, container))
		Expect(nodedriver.LinuxMounts{}.Wipe(other, "")).NotTo(Succeed())
		Expect(nodedriver.LinuxMounts{}.Rewrite(other, map[string][]byte{"x": nil})).NotTo(Succeed())
		Expect(nodedriver.LinuxMounts{}.Read(target, "none")).To(BeNil())
	})

	It("takes the kernel's clock that goes on while the node sleeps", func() {
		clock, err := nodedriver.NewLinuxBootClock()
		Expect(err).NotTo(HaveOccurred())
		again, err := nodedriver.NewLinuxBootClock()
		Expect(err).NotTo(HaveOccurred())
		Expect(clock.ID()).NotTo(BeEmpty())
		Expect(again.ID()).To(Equal(clock.ID()))
		first := clock.Now()
		Expect(again.Now()).To(BeNumerically(">=", first))
		Expect(first).To(BeNumerically(">", 0))
	})
})
