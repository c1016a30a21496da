package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityObstacle says which capability of root is missing, as in an unprivileged container.
func capabilityObstacle() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, "CapEff:")
		if !found {
			continue
		}
		effective, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return err.Error()
		}
		for capability, name := range map[int]string{unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN"} {
			if effective&(1<<capability) == 0 {
				return "a node needs " + name + ", which this root user lacks, as in an unprivileged container"
			}
		}
	}
	return ""
}

// checkMachine looks, before anything is changed, whether a node can run here beside what already does.
func (c *Cluster) checkMachine() (host, error) {
	found := host{cniBin: findCNI()}
	if err := missing(lookPath, found.cniBin); err != nil {
		return host{}, err
	}
	found.runc, _ = lookPath("runc")
	exists, ours, owner, err := c.ownBridge()
	if err != nil {
		return host{}, err
	}
	if exists && !ours {
		if owner == "" {
			return host{}, fmt.Errorf("the interface %s is there, but does not say whose it is: remove it with `ip link delete %s`, or set CLUSTER_BRIDGE", c.Bridge, c.Bridge)
		}
		return host{}, fmt.Errorf("the interface %s belongs to the cluster in %s: take that one down first; one machine runs one cluster", c.Bridge, owner)
	}
	tables, err := proxyTables()
	if err != nil {
		return host{}, fmt.Errorf("nftables do not work here: %w", err)
	}
	if !exists && len(tables) > 0 {
		return host{}, errors.New("another kube-proxy keeps its rules on this machine (nft list table ip kube-proxy): " +
			"stop its cluster, or remove what it left with `nft delete table ip kube-proxy` and the same for ip6")
	}
	if kubeletListens() {
		return host{}, fmt.Errorf("another kubelet runs on this machine (it listens in %s), and two of them would take each other's devices: stop it first", devicePlugins)
	}
	if err := checkNetworks(c.Settings); err != nil {
		return host{}, err
	}
	if forwardingDropped() {
		c.say("warning: this machine drops forwarded packets (nft list chains: hook forward, policy drop), as Docker sets it up; "+
			"pods may not reach each other until you accept traffic from and to %s", c.PodCIDR)
	}
	if _, err := os.Stat("/sys/module/apparmor/parameters/enabled"); err == nil {
		_, found.appArmor = lookPath("apparmor_parser")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return host{}, err
	}
	found.snapshotter, err = chooseSnapshotter(c.Dir)
	return found, err
}

// prepareNode makes what the node's parts find in place: bridge, control groups, kubelet's shared directory.
func (c *Cluster) prepareNode() error {
	if err := c.makeBridge(); err != nil {
		return err
	}
	if err := makeCgroups(c.Settings); err != nil {
		return err
	}
	if err := shareMount(c.KubeletDir()); err != nil {
		return fmt.Errorf("prepare kubelet's directory: %w", err)
	}
	return errors.Join(os.MkdirAll(c.PodLogs(), 0o755), os.MkdirAll(c.StaticPods(), 0o755), os.MkdirAll(c.ContainerdState(), 0o711), setSysctl(forwarding, "1"))
}

// nodeRemains says whether anything of this cluster's node is left on the machine, even if its directory is gone.
func (c *Cluster) nodeRemains() bool {
	if nodeObstacle() != "" {
		return false
	}
	_, ours, _, err := c.ownBridge()
	return err == nil && ours
}

// removeNode removes everything that the node's parts made, after the parts have ended. What the machine has one of, such
// as kube-proxy's tables, is removed only if it is this cluster's. It carries on after a failure, and reports all
// failures. The bridge goes last: it says that the rest is ours.
func (c *Cluster) removeNode(evidence nodeEvidence) error {
	if obstacle := nodeObstacle(); obstacle != "" {
		if !c.exists() {
			return nil
		}
		return errors.New(obstacle + ", and so does removing one: run `down` as root")
	}
	exists, ours, owner, err := c.ownBridge()
	if err != nil {
		return err
	}
	if exists && !ours {
		c.say("the interface %s, and so the running node, belongs to the cluster in %s; nothing of it is touched", c.Bridge, owner)
		return unmountUnder(c.Dir)
	}
	if !exists && !c.exists() {
		return unmountUnder(c.Dir)
	}
	sockets := append(c.shimSockets(), openSockets(c.Settings)...)
	problems := []error{emptyCgroups(c.Settings), unmountUnder(c.Dir, c.NodeDir), removeCgroups(c.Settings)}
	if exists || evidence.proxyStarted {
		problems = append(problems, removeProxyTables())
	}
	for _, file := range append(sockets, c.foreignFiles()...) {
		problems = append(problems, os.RemoveAll(file))
	}
	if evidence.dirApart {
		problems = append(problems, removeUnmounted(c.NodeDir))
	}
	return errors.Join(append(problems, evidence.claims.restore(), c.removeBridge(), os.RemoveAll(c.ClaimsCopy()))...)
}
