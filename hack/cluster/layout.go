package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Layout says where everything is. All paths are absolute.
type Layout struct {
	// Root is the root of the repository.
	Root string
	// Bin holds the built programs, Sources the modules they are built from.
	Bin, Sources string
	// Dir holds all state of a running cluster; `down` removes it.
	Dir string
	// LastLogs is where `down` keeps the logs of the cluster it removed.
	LastLogs string
	// NodeDir holds what needs short paths, as the sockets of CSI drivers do: Dir, where that is short enough.
	NodeDir string
}

// socketLimit is the longest path of a Unix socket (sun_path of unix(7) is 108 bytes with its final zero), and
// longestSocket the longest one that kubelet or a CSI driver makes below NodeDir.
const (
	socketLimit   = 107
	longestSocket = "/kubelet/plugins_registry/node.modelrights.dev-reg.sock"
)

// shortNodeDirs holds a node's directory where the repository lies too deep for sockets.
const shortNodeDirs = "/var/lib/modelrights-cluster"

func newLayout(root, dir string) Layout {
	if dir == "" {
		dir = filepath.Join(root, "_output", "cluster")
	}
	layout := Layout{
		Root:     root,
		Bin:      filepath.Join(root, "_output", "bin"),
		Sources:  filepath.Join(root, "hack", "cluster"),
		Dir:      dir,
		LastLogs: dir + "-logs",
		NodeDir:  dir,
	}
	if len(dir)+len(longestSocket) > socketLimit {
		layout.NodeDir = filepath.Join(shortNodeDirs, layout.tag())
	}
	return layout
}

// tag tells this directory's cluster from others in names that are the machine's. Clusters of several checkouts can be up
// at the same time in namespaces of their own (README.md, Limits), and must then not take each other's things for theirs.
func (l Layout) tag() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(l.Dir)))[:8] }

// CNINetwork names the pod network. The CNI library keeps a file of this name for each pod under /var/lib/cni/results.
func (l Layout) CNINetwork() string { return "modelrights-" + l.tag() }

// ClaimsCopy is a second record of the claims, for when the directory is deleted under the cluster. Like the kernel
// settings in it, it does not outlive a reboot.
func (l Layout) ClaimsCopy() string { return "/run/modelrights-cluster-" + l.tag() + ".json" }

// findRoot looks for the repository's root in the directory and those above it.
func findRoot(dir string) (string, error) {
	for current := dir; ; current = filepath.Dir(current) {
		_, err := os.Stat(filepath.Join(current, "hack", "cluster", "components"))
		switch {
		case err == nil:
			return current, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("look for the repository's root: %w", err)
		case current == filepath.Dir(current):
			return "", fmt.Errorf("%s is not inside the repository: change into it, or give --root", dir)
		}
	}
}

func (l Layout) binary(name string) string { return filepath.Join(l.Bin, name) }

// Kubeconfig of the cluster's administrator.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Dir, "kubeconfig") }

// EnvFile is a shell fragment that tells tests and people what is where.
func (l Layout) EnvFile() string { return filepath.Join(l.Dir, "env") }

// Logs holds one file for each part of the cluster.
func (l Layout) Logs() string { return filepath.Join(l.Dir, "logs") }

// Log is the log of one part.
func (l Layout) Log(part string) string { return filepath.Join(l.Logs(), part+".log") }

// PidFile records the process of one part.
func (l Layout) PidFile(part string) string { return filepath.Join(l.Dir, "pids", part+".json") }

// SettingsFile records what `up` used.
func (l Layout) SettingsFile() string { return filepath.Join(l.Dir, "settings.json") }

// ClaimsFile records what `up` found on the machine, so that `down` puts it back.
func (l Layout) ClaimsFile() string { return filepath.Join(l.Dir, "claims.json") }

// LockFile keeps two commands from changing the cluster at the same time. It lies outside Dir, which `down` removes.
func (l Layout) LockFile() string { return l.Dir + ".lock" }

// Config is a rendered configuration file.
func (l Layout) Config(name string) string { return filepath.Join(l.Dir, "config", name) }

// PKI is a certificate or key.
func (l Layout) PKI(name string) string { return filepath.Join(l.Dir, "pki", name) }

// Data is the directory in which a part keeps its data.
func (l Layout) Data(part string) string { return filepath.Join(l.Dir, "data", part) }

// KubeletDir is kubelet's root directory, which a CSI driver's chart must be told.
func (l Layout) KubeletDir() string { return filepath.Join(l.NodeDir, "kubelet") }

// ContainerdState is containerd's runtime state: sockets, bundles, network namespaces.
func (l Layout) ContainerdState() string { return filepath.Join(l.NodeDir, "containerd") }

// ContainerdSocket is where containerd is called, by kubelet too.
func (l Layout) ContainerdSocket() string {
	return filepath.Join(l.ContainerdState(), "containerd.sock")
}

// StaticPods is where kubelet takes static pods from.
func (l Layout) StaticPods() string { return filepath.Join(l.Dir, "static-pods") }

// PodLogs is where kubelet has containers' output written.
func (l Layout) PodLogs() string { return filepath.Join(l.Dir, "pod-logs") }

// NodeImages holds the images that are imported into containerd at every start.
func (l Layout) NodeImages(name string) string {
	return filepath.Join(l.Bin, "node-images", name+".tar")
}
