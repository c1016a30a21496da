package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tool runs a program of the machine and puts what it says into the error.
func tool(name string, args ...string) (string, error) {
	path, found := lookPath(name)
	if !found {
		return "", fmt.Errorf("%s is not installed", name)
	}
	output, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// bridgeOwner is the directory of the cluster whose bridge this is. The bridge carries it as its alias, so that it
// stays known even if the directory is deleted under a running cluster. It is empty where there is no bridge.
func bridgeOwner(name string) (owner string, exists bool, err error) {
	alias, err := os.ReadFile(filepath.Join("/sys/class/net", name, "ifalias"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return strings.TrimSpace(string(alias)), true, nil
}

// makeBridge makes the interface that holds the node's address. Pods are not attached to it: each has a link and a
// route of its own, so that all they send to Services passes the machine's rules, also on the way back.
func (c *Cluster) makeBridge() error {
	if _, exists, err := bridgeOwner(c.Bridge); err != nil || exists {
		return err
	}
	for _, args := range [][]string{
		{"link", "add", "name", c.Bridge, "type", "bridge"},
		{"link", "set", "dev", c.Bridge, "alias", c.bridgeAlias()},
		{"address", "add", c.NodeAddress + "/32", "dev", c.Bridge},
		{"link", "set", c.Bridge, "up"},
		// The API server calls Services too. Without a route the kernel drops the packet before any rule sees it.
		{"route", "add", c.ServiceCIDR, "dev", c.Bridge, "src", c.NodeAddress},
		// What is meant for a pod that is gone must not leave the machine by the default route. Pods have longer routes.
		{"route", "add", "unreachable", c.PodCIDR},
	} {
		if _, err := tool("ip", args...); err != nil {
			return fmt.Errorf("make the bridge: %w", err)
		}
	}
	return nil
}

// bridgeAlias is the cluster's directory, cut to what the kernel keeps of an alias (255 bytes).
func (c *Cluster) bridgeAlias() string { return c.Dir[:min(len(c.Dir), 255)] }

// ownBridge says whether the bridge is there, and whether it is this cluster's. One without an owner is ours if `up` got
// as far as making it, and was killed before it could write its name on it.
func (c *Cluster) ownBridge() (exists, ours bool, owner string, err error) {
	owner, exists, err = bridgeOwner(c.Bridge)
	return exists, exists && (owner == c.bridgeAlias() || owner == "" && c.exists()), owner, err
}

// removeBridge removes the bridge with its address and routes.
func (c *Cluster) removeBridge() error {
	_, ours, _, err := c.ownBridge()
	if err != nil || !ours {
		return err
	}
	// This one is of no interface. An `up` that was killed may not have got as far as making it.
	routes, err := tool("ip", "route", "show", "type", "unreachable", "exact", c.PodCIDR)
	if err != nil {
		return fmt.Errorf("look for the route of pods that are gone: %w", err)
	}
	if len(routes) > 0 {
		if _, err := tool("ip", "route", "delete", "unreachable", c.PodCIDR); err != nil {
			return fmt.Errorf("remove the route of pods that are gone: %w", err)
		}
	}
	if _, err := tool("ip", "link", "delete", c.Bridge); err != nil {
		return fmt.Errorf("remove the bridge: %w", err)
	}
	return nil
}

// proxyTables are the tables of a kube-proxy in nftables mode, as "family name".
func proxyTables() ([]string, error) {
	listing, err := tool("nft", "list", "tables")
	if err != nil {
		return nil, err
	}
	var tables []string
	for line := range strings.Lines(listing) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "table" && fields[2] == "kube-proxy" {
			tables = append(tables, fields[1])
		}
	}
	return tables, nil
}

// removeProxyTables removes what kube-proxy leaves in the kernel.
func removeProxyTables() error {
	families, err := proxyTables()
	if err != nil {
		return err
	}
	var problems []error
	for _, family := range families {
		if _, err := tool("nft", "delete", "table", family, "kube-proxy"); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// forwardingDropped says whether the machine drops forwarded packets by default, as Docker sets it up; pods would then
// not reach each other.
func forwardingDropped() bool {
	listing, err := tool("nft", "list", "chains")
	if err != nil {
		return false
	}
	for line := range strings.Lines(listing) {
		if strings.Contains(line, "hook forward") && strings.Contains(line, "policy drop") {
			return true
		}
	}
	return false
}
