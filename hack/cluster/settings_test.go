package main

import (
	"strings"
	"testing"
)

func TestOverride(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		check       func(Settings) bool
		problem     string
	}{
		"nothing set": {check: func(s Settings) bool { return s.Ports.APIServer == 17443 && s.DNSAddress() == "10.96.0.10" }},
		"one port": {
			environment: map[string]string{"CLUSTER_PORT_APISERVER": "6443"},
			check:       func(s Settings) bool { return s.Server() == "https://10.213.1.1:6443" && s.Ports.Etcd == 17379 },
		},
		"service network": {
			environment: map[string]string{"CLUSTER_SERVICE_CIDR": "10.50.0.0/16"},
			check:       func(s Settings) bool { return s.ServiceAddress(1) == "10.50.0.1" && s.DNSAddress() == "10.50.0.10" },
		},
		"not a port":           {environment: map[string]string{"CLUSTER_PORT_ETCD": "http"}, problem: `CLUSTER_PORT_ETCD="http"`},
		"port too high":        {environment: map[string]string{"CLUSTER_PORT_ETCD": "65536"}, problem: "between 1 and 65535"},
		"same port twice":      {environment: map[string]string{"CLUSTER_PORT_ETCD": "17443"}, problem: "port 17443 is given to both kube-apiserver and etcd: change CLUSTER_PORT_ETCD"},
		"loopback as node":     {environment: map[string]string{"CLUSTER_NODE_ADDRESS": "127.0.0.1"}, problem: "CLUSTER_NODE_ADDRESS"},
		"network too small":    {environment: map[string]string{"CLUSTER_POD_CIDR": "10.0.0.0/28"}, problem: "CLUSTER_POD_CIDR"},
		"bridge name too long": {environment: map[string]string{"CLUSTER_BRIDGE": "a-bridge-too-far"}, problem: "CLUSTER_BRIDGE"},
		"group with a path":    {environment: map[string]string{"CLUSTER_CGROUP": "../system.slice"}, problem: "CLUSTER_CGROUP"},
	} {
		t.Run(name, func(t *testing.T) {
			settings, err := defaultSettings("tag").override(func(name string) string { return test.environment[name] })
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Fatalf("error %v, want one with %q", err, test.problem)
				}
				return
			}
			if err != nil || !test.check(settings) {
				t.Fatalf("settings %+v, error %v", settings, err)
			}
		})
	}
}

func TestDefaultPortsAreOutOfTheWay(t *testing.T) {
	for _, use := range defaultSettings("tag").ports() {
		if use.number < 1024 || use.number >= 30000 {
			t.Errorf("%s listens on %d: want a port below those of NodePorts and outgoing connections", use.part, use.number)
		}
		for _, other := range []int{2379, 2380, 5000, 6443, 8443, 10248, 10249, 10250, 10256, 10257, 10259} {
			if use.number == other {
				t.Errorf("%s listens on %d, which other clusters use", use.part, use.number)
			}
		}
	}
}

func TestControlPlaneOnlyListensOnLoopback(t *testing.T) {
	settings := defaultSettings("tag")
	settings.NodeParts = false
	for _, use := range settings.ports() {
		if use.address != loopback {
			t.Errorf("%s listens on %s", use.part, use.address)
		}
		if strings.HasPrefix(use.part, "kubelet") || strings.HasPrefix(use.part, "kube-proxy") {
			t.Errorf("%s needs a port where there is no node", use.part)
		}
	}
}
