package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// requirement is a program of the machine, and the Debian package that has it.
type requirement struct{ program, debianPackage string }

// requirements are what the node needs beyond what `build` makes.
var requirements = []requirement{
	{"runc", "runc"},
	{"nft", "nftables"},
	{"ip", "iproute2"},
	{"mount", "mount"},
	{"umount", "mount"},
}

// cniPlugins are the plugins in use, and cniDirs where distributions keep them.
var (
	cniPlugins = []string{"ptp", "host-local"}
	cniDirs    = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
)

// lacking lists what the machine lacks, and the Debian packages that have it.
func lacking(lookup func(program string) (string, bool), cniBin string) (lacks, packages []string) {
	for _, needed := range requirements {
		if _, found := lookup(needed.program); !found {
			lacks = append(lacks, needed.program)
			packages = appendOnce(packages, needed.debianPackage)
		}
	}
	if cniBin == "" {
		lacks = append(lacks, fmt.Sprintf("the CNI plugins %s (looked in %s)", strings.Join(cniPlugins, ", "), strings.Join(cniDirs, ", ")))
		packages = appendOnce(packages, "containernetworking-plugins")
	}
	return lacks, packages
}

// missing returns one error that names everything the machine lacks, each with its package.
func missing(lookup func(program string) (string, bool), cniBin string) error {
	lacks, packages := lacking(lookup, cniBin)
	if lacks == nil {
		return nil
	}
	return fmt.Errorf("the machine lacks %s; on Debian: apt-get install %s", strings.Join(lacks, "; "), strings.Join(packages, " "))
}

// printPackages prints the Debian packages that a node needs and the machine lacks, in one line, or nothing.
func printPackages(out io.Writer) error {
	if _, packages := lacking(lookPath, findCNI()); packages != nil {
		_, err := fmt.Fprintln(out, strings.Join(packages, " "))
		return err
	}
	return nil
}

func appendOnce(list []string, item string) []string {
	for _, present := range list {
		if present == item {
			return list
		}
	}
	return append(list, item)
}

// lookPath finds a program in searchPath.
func lookPath(program string) (string, bool) {
	for _, dir := range filepath.SplitList(searchPath) {
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, true
		}
	}
	return "", false
}

// findCNI returns the first directory that has all plugins, or nothing.
func findCNI() string {
	for _, dir := range cniDirs {
		complete := true
		for _, plugin := range cniPlugins {
			if _, err := os.Stat(filepath.Join(dir, plugin)); err != nil {
				complete = false
			}
		}
		if complete {
			return dir
		}
	}
	return ""
}

// nodeObstacle says why no node can run here, or nothing if one can.
func nodeObstacle() string {
	switch {
	case runtime.GOOS != "linux":
		return "a node needs Linux, and this is " + runtime.GOOS
	case os.Geteuid() != 0:
		return "a node needs root"
	}
	return capabilityObstacle()
}

// withoutNode says what does not run when there is only a control plane.
const withoutNode = "no kubelet, containerd, kube-proxy, pod network or DNS: pods are stored but never run, " +
	"Services lead nowhere, and so webhooks must be given by URL"

// checkNetworks refuses networks that overlap the machine's.
func checkNetworks(s Settings) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	var problems []error
	for _, nic := range interfaces {
		if nic.Name == s.Bridge {
			continue
		}
		addresses, err := nic.Addrs()
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", nic.Name, err)
		}
		for _, address := range addresses {
			present, err := netip.ParsePrefix(address.String())
			if err != nil {
				continue
			}
			problems = append(problems, overlap(s, nic.Name, present))
		}
	}
	return errors.Join(problems...)
}

func overlap(s Settings, nic string, present netip.Prefix) error {
	for _, wanted := range []struct{ variable, network string }{
		{"CLUSTER_POD_CIDR", s.PodCIDR}, {"CLUSTER_SERVICE_CIDR", s.ServiceCIDR}, {"CLUSTER_NODE_ADDRESS", s.NodeAddress + "/32"},
	} {
		if network, err := netip.ParsePrefix(wanted.network); err == nil && network.Overlaps(present) {
			return fmt.Errorf("%s overlaps %s of the interface %s: set %s to another network", wanted.network, present, nic, wanted.variable)
		}
	}
	return nil
}
