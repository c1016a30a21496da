package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo.
type mount struct{ point, kind string }

func readMounts() ([]mount, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(content)), nil
}

// parseMounts reads mountinfo as proc_pid_mountinfo(5) has it: mount points are the fifth field, with spaces and
// the like as octal escapes; the file system's type follows the field "-".
func parseMounts(content string) []mount {
	var mounts []mount
	for line := range strings.Lines(content) {
		before, after, found := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		mounts = append(mounts, mount{point: unescape(fields[4]), kind: kind[0]})
	}
	return mounts
}

func unescape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// mountsUnder are the mount points at or below the directories, latest first.
func mountsUnder(dirs ...string) ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	var points []string
	for i := len(mounts) - 1; i >= 0; i-- {
		for _, dir := range dirs {
			if mounts[i].point == dir || strings.HasPrefix(mounts[i].point, dir+"/") {
				points = append(points, mounts[i].point)
				break
			}
		}
	}
	return points, nil
}

// unmountUnder removes all mounts at or below the directories, in several passes, since mounts may lie upon mounts.
func unmountUnder(dirs ...string) error {
	var last error
	for range 20 {
		points, err := mountsUnder(dirs...)
		if err != nil || len(points) == 0 {
			return err
		}
		for _, point := range points {
			err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				last = fmt.Errorf("unmount %s: %w", point, err)
			}
		}
	}
	return errors.Join(errors.New("mounts remain after 20 attempts"), last)
}

// shareMount makes the directory a mount of its own that passes new mounts on, in both directions: without that, what
// a CSI driver mounts in its container would be seen neither by kubelet nor by other containers.
func shareMount(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	present, err := mountsUnder(dir)
	if err != nil {
		return err
	}
	for _, point := range present {
		if point == dir {
			return nil
		}
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the mount %s: %w", dir, err)
	}
	return nil
}

// chooseSnapshotter says how containerd keeps images: in overlays, where the file system below can carry them, and
// otherwise as plain copies, which are slower but work everywhere.
func chooseSnapshotter(dir string) (string, error) {
	base := filepath.Join(dir, "overlay-test")
	defer os.RemoveAll(base) //nolint:errcheck // three empty directories inside a directory that `down` removes
	lower, upper, work, target := filepath.Join(base, "l"), filepath.Join(base, "u"), filepath.Join(base, "w"), filepath.Join(base, "t")
	for _, sub := range []string{lower, upper, work, target} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
		return "native", nil
	}
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		return "", fmt.Errorf("unmount the overlay test: %w", err)
	}
	return "overlayfs", nil
}

// removeUnmounted deletes a directory, if nothing is mounted in it.
func removeUnmounted(dir string) error {
	if err := unmounted(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// unmounted returns an error if something is mounted at or below the directory.
func unmounted(dir string) error {
	points, err := mountsUnder(dir)
	if err != nil || len(points) == 0 {
		return err
	}
	return fmt.Errorf("%s is not deleted, because something is still mounted at %s: unmount it, then try again", dir, strings.Join(points, ", "))
}
