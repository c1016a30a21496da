package nodedriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// maxStacked bounds how many mounts DetachAll takes off one target.
const maxStacked = 64

// LinuxMounts are the mounts of the mount namespace that the driver runs in. It needs CAP_SYS_ADMIN and Linux 5.12.
type LinuxMounts struct{}

var _ Mounts = LinuxMounts{}

// Look says what is at a target. See Mounts.
func (LinuxMounts) Look(target string) (State, error) {
	top, err := topMount(target)
	switch {
	case err != nil:
		return NothingMounted, err
	case top == nil:
		return NothingMounted, nil
	case !ours(top):
		return ForeignMounted, nil
	}
	info, err := os.Lstat(filepath.Join(target, v1alpha1.KeyFileName))
	if errors.Is(err, os.ErrNotExist) {
		return OursMounted, nil
	}
	if err != nil {
		return OursMounted, fmt.Errorf("look for the key: %w", err)
	}
	if info.Size() == 0 {
		return OursMounted, nil
	}
	return KeyMounted, nil
}

// topMount is the filesystem that is seen at a target, or nil where nothing is mounted.
func topMount(target string) (*mountinfo.Info, error) {
	// The kernel lists mounts by their real path, and kubelet's directory may be a symbolic link.
	path, err := filepath.EvalSymlinks(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolve the target: %w", err)
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil
	}
	return mounts[len(mounts)-1], nil
}

// ours says whether a mount was made by Attach, in this run of the driver or an earlier one.
func ours(m *mountinfo.Info) bool { return m.FSType == "tmpfs" && m.Source == v1alpha1.CSIDriverName }

// NoSwap asks the kernel whether it knows the option, without mounting anything. See Mounts.
func (LinuxMounts) NoSwap() (bool, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("open tmpfs: %w", err)
	}
	defer closeFD(fs)
	err = unix.FsconfigSetFlag(fs, "noswap")
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

// Attach mounts a tmpfs with the files at a target. See Mounts.
//
// The tmpfs is made and filled while it is not attached anywhere, so that it vanishes with its descriptor on any
// failure, and appears at the target complete and read-only. It must be read-only before it is attached: in a container
// the mount propagates to the node when it is attached, and later changes of its attributes do not. Read-only is the mount,
// not the filesystem: the driver can still rewrite the key in place through another mount of it (open_tree), while the
// containers' views stay read-only.
func (m LinuxMounts) Attach(target string, files map[string][]byte, noSwap bool) (err error) {
	mount, err := newTmpfs(noSwap)
	if err != nil {
		return err
	}
	defer closeFD(mount)
	for name, content := range files {
		if err := writeFile(mount, name, content, unix.O_CREAT|unix.O_EXCL); err != nil {
			return err
		}
	}
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, readOnly); err != nil {
		return fmt.Errorf("make the tmpfs read-only: %w", err)
	}
	if err := os.Mkdir(target, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create the target: %w", err)
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return errors.Join(fmt.Errorf("attach the tmpfs: %w", err), m.Remove(target))
	}
	return nil
}

// newTmpfs makes a tmpfs that is attached nowhere and returns its mount's descriptor.
func newTmpfs(noSwap bool) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open tmpfs: %w", err)
	}
	defer closeFD(fs)
	options := [][2]string{
		{"source", v1alpha1.CSIDriverName},
		{"size", strconv.Itoa(tmpfsBytes)},
		{"nr_inodes", strconv.Itoa(tmpfsInodes)},
		{"mode", strconv.FormatInt(directoryMode, 8)},
	}
	for _, option := range options {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return -1, fmt.Errorf("set tmpfs option %s: %w", option[0], err)
		}
	}
	if noSwap {
		if err := unix.FsconfigSetFlag(fs, "noswap"); err != nil {
			return -1, fmt.Errorf("set tmpfs option noswap: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create tmpfs: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount tmpfs: %w", err)
	}
	return mount, nil
}

// closeFD closes a descriptor that nothing was written to, so that nothing can go wrong.
func closeFD(fd int) { _ = unix.Close(fd) }

// DetachAll unmounts what Attach mounted at a target, however often. See Mounts.
func (LinuxMounts) DetachAll(target string) error {
	for range maxStacked {
		top, err := topMount(target)
		if err != nil || top == nil {
			return err
		}
		if !ours(top) {
			return errors.New("another filesystem is mounted at the target; unmount it")
		}
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			// Somebody on the node looks at it. It leaves the tree now, and ends when they are done.
			err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			return fmt.Errorf("unmount: %w", err)
		}
	}
	return fmt.Errorf("more than %d filesystems are mounted at the target", maxStacked)
}

// Remove removes the target's directory. See Mounts.
func (LinuxMounts) Remove(target string) error {
	if err := unix.Rmdir(target); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the target: %w", err)
	}
	return nil
}
