package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// systemGroup is the control group of the cluster's own processes, beside kubelet's for the pods. Shims and whatever
// else the parts start inherit it, so that all of them are found whatever becomes of their parents.
const systemGroup = "system"

// cgroupRoots are the mount points of all control group hierarchies, version 2 first.
func cgroupRoots() ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	unified, rest, err := hierarchies(mounts)
	return append(unified, rest...), err
}

// hierarchies are the mount points of version 2, of which there is one at most, and of version 1.
func hierarchies(mounts []mount) (unified, rest []string, err error) {
	seen := map[string]bool{}
	for _, m := range mounts {
		if seen[m.point] || !strings.HasPrefix(m.point, "/sys/fs/cgroup") {
			continue
		}
		switch m.kind {
		case "cgroup2":
			unified = append(unified, m.point)
		case "cgroup":
			rest = append(rest, m.point)
		}
		seen[m.point] = true
	}
	if len(unified)+len(rest) == 0 {
		return nil, nil, errors.New("no control groups are mounted below /sys/fs/cgroup: mount cgroup2 there")
	}
	return unified, rest, nil
}

// neededControllers are those that kubelet insists on in the parent of its groups, as far as the kernel has them.
var neededControllers = []string{"cpu", "cpuset", "hugetlb", "memory", "pids"}

// enableControllers lets the groups below the root of version 2 use the controllers that kubelet insists on. They stay
// enabled, as they do after other container engines: by then others may rely on them.
func enableControllers(root string) error {
	read := func(name string) ([]string, error) {
		content, err := os.ReadFile(filepath.Join(root, name))
		return strings.Fields(string(content)), err
	}
	available, err := read("cgroup.controllers")
	if err != nil {
		return err
	}
	const control = "cgroup.subtree_control"
	enabled, err := read(control)
	if err != nil {
		return err
	}
	for _, controller := range neededControllers {
		if !slices.Contains(available, controller) || slices.Contains(enabled, controller) {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, control), []byte("+"+controller), 0); err != nil {
			return fmt.Errorf("enable the controller %s for control groups (in a container, its own processes are in the way): %w", controller, err)
		}
	}
	return nil
}

// makeCgroups makes the cluster's group in every hierarchy; kubelet insists that its root is there.
func makeCgroups(s Settings) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	unified, rest, err := hierarchies(mounts)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		if err := enableControllers(unified[0]); err != nil {
			return err
		}
	}
	for _, root := range append(unified, rest...) {
		if err := os.MkdirAll(filepath.Join(root, s.Cgroup), 0o755); err != nil {
			return fmt.Errorf("make the control group %s: %w", s.Cgroup, err)
		}
	}
	join, err := joinFile(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(join), 0o755); err != nil {
		return fmt.Errorf("make the control group of the cluster's processes: %w", err)
	}
	return nil
}

// joinFile is where a process writes its number to become one of the cluster's. The version 2 hierarchy serves, even
// on machines where version 1 has all the controllers; else the first of version 1.
func joinFile(s Settings) (string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return "", err
	}
	return filepath.Join(roots[0], s.Cgroup, systemGroup, "cgroup.procs"), nil
}

// cgroupDirs lists the cluster's groups in all hierarchies, children before parents.
func cgroupDirs(s Settings) ([]string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root, s.Cgroup), func(path string, entry fs.DirEntry, err error) error {
			// Groups vanish under the walk when their last process ends.
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				return nil
			}
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list control groups: %w", err)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(dirs)))
	return dirs, nil
}

// cgroupProcesses are the processes in the cluster's groups, and in no other.
func cgroupProcesses(s Settings) ([]int, error) {
	dirs, err := cgroupDirs(s)
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{os.Getpid(): true}
	var pids []int
	for _, dir := range dirs {
		content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, line := range strings.Fields(string(content)) {
			pid, err := strconv.Atoi(line)
			if err == nil && pid > 0 && !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// emptyCgroups ends every process in the cluster's groups by force and waits until they are gone.
func emptyCgroups(s Settings) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids, err := cgroupProcesses(s)
		if err != nil {
			return err
		}
		alive := 0
		for _, pid := range pids {
			if _, err := identify(pid); err != nil {
				continue
			}
			alive++
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		if alive == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end, even by force: they hang in the kernel", pids)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// removeCgroups removes the cluster's groups. A group stays busy for a moment after its last process.
func removeCgroups(s Settings) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		dirs, err := cgroupDirs(s)
		if err != nil || len(dirs) == 0 {
			return err
		}
		var last error
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				last = fmt.Errorf("remove the control group %s: %w", dir, err)
			}
		}
		if last != nil && time.Now().After(deadline) {
			return last
		}
		time.Sleep(20 * time.Millisecond)
	}
}
