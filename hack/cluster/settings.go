package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// Settings is everything about the cluster that may be changed. `up` records what it used, so that later commands
// speak of the same cluster whatever the environment says then.
type Settings struct {
	Ports Ports
	// NodeName is the name of the one node.
	NodeName string
	// NodeAddress is the address of the node and of the API server. It sits on the bridge.
	NodeAddress string
	// PodCIDR and ServiceCIDR are IPv4 networks that must not overlap a network of the machine.
	PodCIDR, ServiceCIDR string
	// Bridge is the network interface that holds NodeAddress; at most 15 characters.
	Bridge string
	// Cgroup is the control group, below the root of each hierarchy, that holds every process of the cluster.
	Cgroup string
	// NodeParts says whether the machine runs a node too, or the control plane alone.
	NodeParts bool
}

// Ports are the TCP ports on this machine. None is a default of Kubernetes, so that kind, minikube and others are left
// alone, and all lie below the range that Linux hands out to outgoing connections (32768 up).
type Ports struct {
	APIServer, Etcd, EtcdPeer, ControllerManager, Scheduler int
	Kubelet, KubeletHealth, ProxyHealth, ProxyMetrics       int
	Registry                                                int
}

// portUse names a port: which part listens there, on which address, and which variable overrides it.
type portUse struct {
	part, address, variable string
	number                  int
	set                     func(*Ports, int)
}

// defaultSettings are the settings of an environment without overrides. The tag is that of the cluster's directory.
func defaultSettings(tag string) Settings {
	return Settings{
		Ports: Ports{
			APIServer: 17443, Etcd: 17379, EtcdPeer: 17380, ControllerManager: 17257, Scheduler: 17259,
			Kubelet: 17250, KubeletHealth: 17248, ProxyHealth: 17256, ProxyMetrics: 17249, Registry: 17500,
		},
		NodeName:    "node-1",
		NodeAddress: "10.213.1.1",
		PodCIDR:     "10.213.0.0/24",
		ServiceCIDR: "10.96.0.0/16",
		Bridge:      "modelrights0",
		Cgroup:      "modelrights-" + tag,
		NodeParts:   true,
	}
}

// ports lists the ports that the cluster listens on with these settings.
func (s Settings) ports() []portUse {
	p, node := s.Ports, s.apiAddress()
	uses := []portUse{
		{"kube-apiserver", node, "CLUSTER_PORT_APISERVER", p.APIServer, func(p *Ports, n int) { p.APIServer = n }},
		{"etcd", loopback, "CLUSTER_PORT_ETCD", p.Etcd, func(p *Ports, n int) { p.Etcd = n }},
		{"etcd (peers)", loopback, "CLUSTER_PORT_ETCD_PEER", p.EtcdPeer, func(p *Ports, n int) { p.EtcdPeer = n }},
		{"kube-controller-manager", loopback, "CLUSTER_PORT_CONTROLLER_MANAGER", p.ControllerManager, func(p *Ports, n int) { p.ControllerManager = n }},
		{"kube-scheduler", loopback, "CLUSTER_PORT_SCHEDULER", p.Scheduler, func(p *Ports, n int) { p.Scheduler = n }},
		{"registry", node, "CLUSTER_PORT_REGISTRY", p.Registry, func(p *Ports, n int) { p.Registry = n }},
	}
	if !s.NodeParts {
		return uses
	}
	return append(uses,
		portUse{"kubelet", node, "CLUSTER_PORT_KUBELET", p.Kubelet, func(p *Ports, n int) { p.Kubelet = n }},
		portUse{"kubelet (health)", loopback, "CLUSTER_PORT_KUBELET_HEALTH", p.KubeletHealth, func(p *Ports, n int) { p.KubeletHealth = n }},
		portUse{"kube-proxy (health)", loopback, "CLUSTER_PORT_PROXY_HEALTH", p.ProxyHealth, func(p *Ports, n int) { p.ProxyHealth = n }},
		portUse{"kube-proxy (metrics)", loopback, "CLUSTER_PORT_PROXY_METRICS", p.ProxyMetrics, func(p *Ports, n int) { p.ProxyMetrics = n }},
	)
}

const loopback = "127.0.0.1"

// apiAddress is where the API server listens: the node's address, which pods reach, or loopback where there is no node.
func (s Settings) apiAddress() string {
	if s.NodeParts {
		return s.NodeAddress
	}
	return loopback
}

// Server is the URL of the API server.
func (s Settings) Server() string {
	return fmt.Sprintf("https://%s:%d", s.apiAddress(), s.Ports.APIServer)
}

// Registry is the host and port of the image registry, the same for pushing from the machine, pulling on the node, and
// asking from a pod. It speaks plain HTTP.
func (s Settings) Registry() string { return fmt.Sprintf("%s:%d", s.apiAddress(), s.Ports.Registry) }

// ServiceAddress is the nth address of the service network: 1 is the API server's, 10 is DNS's.
func (s Settings) ServiceAddress(n int) string {
	prefix, err := netip.ParsePrefix(s.ServiceCIDR)
	if err != nil {
		return ""
	}
	address := prefix.Masked().Addr()
	for range n {
		address = address.Next()
	}
	return address.String()
}

// DNSAddress is the address of the DNS Service.
func (s Settings) DNSAddress() string { return s.ServiceAddress(10) }

// override applies the environment. Unset and empty variables change nothing.
func (s Settings) override(getenv func(string) string) (Settings, error) {
	for variable, field := range map[string]*string{
		"CLUSTER_NODE_NAME":    &s.NodeName,
		"CLUSTER_NODE_ADDRESS": &s.NodeAddress,
		"CLUSTER_POD_CIDR":     &s.PodCIDR,
		"CLUSTER_SERVICE_CIDR": &s.ServiceCIDR,
		"CLUSTER_BRIDGE":       &s.Bridge,
		"CLUSTER_CGROUP":       &s.Cgroup,
	} {
		if value := getenv(variable); value != "" {
			*field = value
		}
	}
	for _, use := range s.ports() {
		value := getenv(use.variable)
		if value == "" {
			continue
		}
		number, err := strconv.Atoi(value)
		if err != nil || number < 1 || number > 65535 {
			return s, fmt.Errorf("%s=%q: want a port between 1 and 65535", use.variable, value)
		}
		use.set(&s.Ports, number)
	}
	return s, s.validate()
}

func (s Settings) validate() error {
	var problems []error
	seen := map[int]string{}
	for _, use := range s.ports() {
		if other, taken := seen[use.number]; taken {
			problems = append(problems, fmt.Errorf("port %d is given to both %s and %s: change %s", use.number, other, use.part, use.variable))
		}
		seen[use.number] = use.part
	}
	if address, err := netip.ParseAddr(s.NodeAddress); err != nil || !address.Is4() || address.IsLoopback() {
		problems = append(problems, fmt.Errorf("CLUSTER_NODE_ADDRESS=%q: want an IPv4 address that is not loopback", s.NodeAddress))
	}
	for variable, cidr := range map[string]string{"CLUSTER_POD_CIDR": s.PodCIDR, "CLUSTER_SERVICE_CIDR": s.ServiceCIDR} {
		if prefix, err := netip.ParsePrefix(cidr); err != nil || !prefix.Addr().Is4() || prefix.Bits() > 24 {
			problems = append(problems, fmt.Errorf("%s=%q: want an IPv4 network of /24 or larger", variable, cidr))
		}
	}
	if len(s.Bridge) == 0 || len(s.Bridge) > 15 {
		problems = append(problems, fmt.Errorf("CLUSTER_BRIDGE=%q: want 1 to 15 characters", s.Bridge))
	}
	if !plainName(s.Cgroup) {
		problems = append(problems, fmt.Errorf("CLUSTER_CGROUP=%q: want letters, digits and hyphens only", s.Cgroup))
	}
	return errors.Join(problems...)
}

func plainName(name string) bool {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return false
		}
	}
	return name != ""
}
