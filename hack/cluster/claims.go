package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Claims is what the machine looked like before the cluster changed it.
type Claims struct {
	// Sysctls are kernel settings that kubelet and the CNI plugins change, with their earlier values.
	Sysctls []sysctl `json:"sysctls"`
	// Absent are the directories outside the cluster's own that were not there, deepest last.
	Absent []string `json:"absent"`
}

// sysctl is a kernel setting: its path below /proc/sys and its value.
type sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// forwarding is the switch for forwarding packets. The kernel sets the same switch of each interface with it, and
// whether redirects are accepted.
const forwarding = "net/ipv4/ip_forward"

// touchedSysctls are patterns of the kernel settings that change: kubelet sets those of vm and kernel, and pods need
// forwarding. They are restored in this order.
var touchedSysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	forwarding, "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/accept_redirects",
}

// touchedDirs are the directories that parts of the cluster make at paths that cannot be configured.
var touchedDirs = []string{
	"/var/lib/kubelet", devicePlugins,
	"/var/log/containers",
	"/run/containerd", "/run/containerd/s",
	"/var/lib/cni", "/var/lib/cni/results", "/var/lib/cni/cache",
	shortNodeDirs,
}

// devicePlugins is where kubelet expects device plugins, whatever its root directory. It empties the directory at start.
const devicePlugins = "/var/lib/kubelet/device-plugins"

// kubeletListens says whether a kubelet, of whatever cluster, has devicePlugins in use.
func kubeletListens() bool {
	connection, err := net.Dial("unix", filepath.Join(devicePlugins, "kubelet.sock"))
	if err != nil {
		return false
	}
	connection.Close() //nolint:errcheck // nothing was sent
	return true
}

const sysctlRoot = "/proc/sys"

// recordClaims notes the machine's state, once: what a failed `up` changed must not be taken for the original.
func (c *Cluster) recordClaims() error {
	if _, found, err := c.readClaims(); err != nil || found {
		return err
	}
	var claims Claims
	for _, pattern := range touchedSysctls {
		files, err := filepath.Glob(filepath.Join(sysctlRoot, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			value, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			claims.Sysctls = append(claims.Sysctls, sysctl{strings.TrimPrefix(file, sysctlRoot+"/"), strings.TrimSpace(string(value))})
		}
	}
	for _, dir := range touchedDirs {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			claims.Absent = append(claims.Absent, dir)
		}
	}
	data, err := json.MarshalIndent(claims, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(writeFile(c.ClaimsFile(), append(data, '\n'), 0o644), writeFile(c.ClaimsCopy(), append(data, '\n'), 0o644))
}

// readClaims reads the record or its copy, and says whether there is one.
func (c *Cluster) readClaims() (claims Claims, found bool, err error) {
	for _, file := range []string{c.ClaimsFile(), c.ClaimsCopy()} {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return claims, false, err
		}
		if err := json.Unmarshal(data, &claims); err != nil {
			return claims, false, fmt.Errorf("%s: %w", file, err)
		}
		return claims, true, nil
	}
	return claims, false, nil
}

// restore puts kernel settings back and removes directories that were not there before, if nothing else is in them.
func (claims Claims) restore() error {
	var problems []error
	for _, setting := range claims.Sysctls {
		problems = append(problems, setSysctl(setting.Name, setting.Value))
	}
	for i := len(claims.Absent) - 1; i >= 0; i-- {
		dir := claims.Absent[i]
		if dir == devicePlugins && !kubeletListens() {
			problems = append(problems, os.RemoveAll(dir))
			continue
		}
		// Not empty means that somebody else uses it by now.
		os.Remove(dir) //nolint:errcheck // see above
	}
	return errors.Join(problems...)
}

// setSysctl sets a kernel setting, unless it has the value already or belongs to an interface that is gone.
func setSysctl(name, value string) error {
	file := filepath.Join(sysctlRoot, name)
	current, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(current)) == value {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}
