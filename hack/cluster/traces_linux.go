package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// shimSocketDir is where containerd's shims listen. The path is fixed, and shared with any other containerd of the machine.
const shimSocketDir = "/run/containerd/s"

// shimSockets are the sockets of containers' shims. Which of those in their directory are ours stands
// in the bundles.
func (c *Cluster) shimSockets() []string {
	var sockets []string
	for _, pattern := range []string{"bootstrap.json", "address"} {
		files, err := filepath.Glob(filepath.Join(c.ContainerdState(), "io.containerd.runtime.v2.task", "*", "*", pattern))
		if err != nil {
			continue
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			sockets = append(sockets, socketPaths(string(content))...)
		}
	}
	return sockets
}

// socketPaths finds the sockets that a bundle's file names as unix:// URLs.
func socketPaths(content string) []string {
	var paths []string
	for _, piece := range strings.Split(content, "unix://")[1:] {
		if end := strings.IndexAny(piece, "\"\n, "); end >= 0 {
			piece = piece[:end]
		}
		if filepath.IsAbs(piece) {
			paths = append(paths, filepath.Clean(piece))
		}
	}
	return paths
}

// openSockets are the shims' sockets on which processes in the cluster's control groups listen. They are found even if the
// bundles are gone.
func openSockets(s Settings) []string {
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(table)) {
		const inode, path = 6, 7
		fields := strings.Fields(line)
		if len(fields) > path && filepath.Dir(fields[path]) == shimSocketDir {
			paths["socket:["+fields[inode]+"]"] = fields[path]
		}
	}
	pids, err := cgroupProcesses(s)
	if err != nil {
		return nil
	}
	var sockets []string
	for _, pid := range pids {
		descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			continue
		}
		for _, descriptor := range descriptors {
			if target, err := os.Readlink(descriptor); err == nil && paths[target] != "" {
				sockets = append(sockets, paths[target])
			}
		}
	}
	return sockets
}

// foreignFiles are ours among the files in directories that are shared with others: links to our containers' logs,
// and the CNI library's notes on our network.
func (c *Cluster) foreignFiles() []string {
	var ours []string
	links, err := filepath.Glob("/var/log/containers/*")
	if err == nil {
		for _, link := range links {
			target, err := os.Readlink(link)
			if err == nil && strings.HasPrefix(target, c.PodLogs()+"/") {
				ours = append(ours, link)
			}
		}
	}
	results, err := filepath.Glob("/var/lib/cni/results/" + c.CNINetwork() + "-*")
	if err == nil {
		ours = append(ours, results...)
	}
	return ours
}
