package nodedriver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Held lists the driver's mounts below a directory. See Mounts.
func (LinuxMounts) Held(directory string) ([]string, error) {
	// The kernel lists mounts by their real path, and kubelet's directory may be a symbolic link.
	actual, err := filepath.EvalSymlinks(directory)
	if err != nil {
		return nil, fmt.Errorf("resolve the directory: %w", err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(actual))
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	var targets []string
	for _, m := range mounts {
		if ours(m) && !isPart(m) {
			targets = append(targets, directory+strings.TrimPrefix(m.Mountpoint, actual))
		}
	}
	return targets, nil
}

// isPart says whether a mount shows a volume, or a part of it, to one container alone: kubelet makes such for a subPath,
// below the pod's directory. Nobody renews a lease there.
func isPart(m *mountinfo.Info) bool {
	return m.Root != "/" || slices.Contains(strings.Split(m.Mountpoint, string(filepath.Separator)), "volume-subpaths")
}

// Read reads a file through the target. See Mounts.
func (LinuxMounts) Read(target, name string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(target, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// Rewrite writes files through a mount of the tmpfs of its own that is writable and attached nowhere. See Mounts.
func (LinuxMounts) Rewrite(target string, files map[string][]byte) error {
	tree, err := writable(target)
	if err != nil {
		return err
	}
	defer closeFD(tree)
	for name, content := range files {
		if err := writeFile(tree, name, content, unix.O_CREAT); err != nil {
			return err
		}
	}
	return nil
}

// Wipe overwrites what is in the files before it makes them empty: by that alone, memory that they had would keep it until
// it is used for something else. See Mounts.
func (LinuxMounts) Wipe(target, but string) error {
	tree, err := writable(target)
	if err != nil {
		return err
	}
	defer closeFD(tree)
	names, err := fileNames(tree)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if name != but {
			errs = append(errs, wipeFile(tree, name))
		}
	}
	return errors.Join(errs...)
}

// writable returns another mount of the tmpfs at a target, through which its files can be written. It vanishes with its
// descriptor; the mounts that kubelet and containers have stay read-only.
func writable(target string) (int, error) {
	top, err := topMount(target)
	if err != nil {
		return -1, err
	}
	if top == nil || !ours(top) {
		return -1, errors.New("no filesystem of the driver's is mounted at the target")
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open the mounted tmpfs: %w", err)
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		closeFD(tree)
		return -1, fmt.Errorf("make the tmpfs writable: %w", err)
	}
	return tree, nil
}

func fileNames(directory int) ([]string, error) {
	fd, err := unix.Openat(directory, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the tmpfs's directory: %w", err)
	}
	open := os.NewFile(uintptr(fd), ".")
	names, err := open.Readdirnames(-1)
	if err = errors.Join(err, open.Close()); err != nil {
		return nil, fmt.Errorf("list the tmpfs's files: %w", err)
	}
	return names, nil
}

// wipeFile writes zeros over a file, and then makes it empty.
func wipeFile(directory int, name string) error {
	fd, err := unix.Openat(directory, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open file %s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	info, err := file.Stat()
	if err == nil {
		_, err = io.Copy(file, io.LimitReader(zeros{}, info.Size()))
	}
	// Where zeros cannot be written, empty is better than nothing.
	if err = errors.Join(err, file.Truncate(0), file.Close()); err != nil {
		return fmt.Errorf("wipe file %s: %w", name, err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// writeFile gives a file a content. More flags say whether it may, or must, be new.
func writeFile(directory int, name string, content []byte, flags int) error {
	if name != filepath.Base(name) || !filepath.IsLocal(name) {
		return fmt.Errorf("%q is not the name of a file", name)
	}
	fd, err := unix.Openat(directory, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, fileMode)
	if err != nil {
		return fmt.Errorf("create file %s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	n, err := file.Write(content)
	if err == nil && n < len(content) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	// The umask may have taken bits away.
	err = errors.Join(err, file.Chmod(fileMode), file.Close())
	if err != nil {
		return fmt.Errorf("write file %s: %w", name, err)
	}
	return nil
}
