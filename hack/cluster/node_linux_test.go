package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	fields := "S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10"
	for name, test := range map[string]struct {
		stat, state, started string
		fails                bool
	}{
		"plain":                     {stat: "42 (etcd) " + fields, state: "S", started: "987654"},
		"name with parenthesis":     {stat: "42 (a) b) " + fields, state: "S", started: "987654"},
		"name that looks like stat": {stat: "42 (x) R 1 2 3) " + fields, state: "S", started: "987654"},
		"cut off":                   {stat: "42 (etcd) S 1 1", fails: true},
		"no name":                   {stat: "42", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			state, started, err := parseStat(test.stat)
			if (err != nil) != test.fails || state != test.state || started != test.started {
				t.Errorf("%q, %q, %v", state, started, err)
			}
		})
	}
}

func TestParseMounts(t *testing.T) {
	content := "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n" +
		`90 27 0:50 / /with\040space/kubelet rw shared:3 - tmpfs tmpfs rw` + "\n" +
		"40 27 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n" +
		"41 27 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
		"rubbish\n"
	mounts := parseMounts(content)
	want := []mount{{"/", "ext4"}, {"/with space/kubelet", "tmpfs"}, {"/sys/fs/cgroup/unified", "cgroup2"}, {"/sys/fs/cgroup/pids", "cgroup"}}
	if !reflect.DeepEqual(mounts, want) {
		t.Fatalf("mounts %q", mounts)
	}
	unified, rest, err := hierarchies(mounts)
	if err != nil || len(unified) != 1 || len(rest) != 1 {
		t.Errorf("hierarchies %q, %q, %v", unified, rest, err)
	}
	if _, _, err := hierarchies(mounts[:2]); err == nil {
		t.Error("a machine without control groups passes")
	}
}

func TestEnableControllers(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.controllers", "cpuset cpu io memory pids\n")
	write("cgroup.subtree_control", "cpu io memory pids\n")
	if err := enableControllers(root); err != nil {
		t.Fatal(err)
	}
	// A plain file keeps what was written last, and only cpuset was missing.
	if content, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")); err != nil || string(content) != "+cpuset" {
		t.Errorf("wrote %q, %v", content, err)
	}
}

func TestSocketPaths(t *testing.T) {
	bootstrap := `{"version":3,"address":"unix:///run/containerd/s/abc","protocol":"ttrpc"}`
	for content, want := range map[string][]string{
		bootstrap:                      {"/run/containerd/s/abc"},
		"unix:///run/containerd/s/abc": {"/run/containerd/s/abc"},
		"unix://relative":              nil,
		"vsock://1:2":                  nil,
	} {
		if got := socketPaths(content); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", content, got)
		}
	}
}

func TestMountedDirectoriesAreNotDeleted(t *testing.T) {
	// /proc has something mounted at it wherever tests run. Only the check is called, never the deletion.
	if err := unmounted("/proc"); err == nil || !strings.Contains(err.Error(), "still mounted at") {
		t.Errorf("error %v", err)
	}
	if err := unmounted(t.TempDir()); err != nil {
		t.Error(err)
	}
	if points, err := mountsUnder("/pro"); err != nil || len(points) != 0 {
		t.Errorf("%q counts as below /pro, %v", points, err)
	}
}
