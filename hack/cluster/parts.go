package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
)

// part is one long-running process of the cluster.
type part struct {
	name string
	// node says that it belongs to the node, not to the control plane.
	node bool
	// command is the program and its arguments.
	command func(*Cluster) []string
	// ready returns nil once the part does its work.
	ready func(context.Context, *Cluster) error
	// port is where it listens, 0 for a Unix socket.
	port func(Ports) int
}

// parts are all processes, in the order in which they are started and listed; they are stopped in the reverse order.
func parts() []part {
	return []part{
		{name: "etcd", command: etcdCommand, port: func(p Ports) int { return p.Etcd }, ready: func(ctx context.Context, c *Cluster) error {
			return c.probe(ctx, "etcd-ca", "etcd-client", loopback, c.Ports.Etcd, "/health")
		}},
		{name: "kube-apiserver", command: apiserverCommand, port: func(p Ports) int { return p.APIServer }, ready: func(ctx context.Context, c *Cluster) error {
			return c.probe(ctx, "ca", "admin", c.apiAddress(), c.Ports.APIServer, "/readyz")
		}},
		{name: "registry", command: registryCommand, port: func(p Ports) int { return p.Registry }, ready: func(ctx context.Context, c *Cluster) error {
			return probeHTTP(ctx, http.DefaultClient, "http://"+c.Registry()+"/v2/")
		}},
		{name: "containerd", node: true, command: containerdCommand, port: noPort, ready: containerdReady},
		{name: "kube-controller-manager", command: controllerManagerCommand, port: func(p Ports) int { return p.ControllerManager }, ready: func(ctx context.Context, c *Cluster) error {
			return c.probe(ctx, "", "admin", loopback, c.Ports.ControllerManager, "/healthz")
		}},
		{name: "kube-scheduler", command: schedulerCommand, port: func(p Ports) int { return p.Scheduler }, ready: func(ctx context.Context, c *Cluster) error {
			return c.probe(ctx, "", "admin", loopback, c.Ports.Scheduler, "/healthz")
		}},
		{name: "kubelet", node: true, command: kubeletCommand, port: func(p Ports) int { return p.Kubelet }, ready: func(ctx context.Context, c *Cluster) error {
			return probeHTTP(ctx, http.DefaultClient, fmt.Sprintf("http://%s:%d/healthz", loopback, c.Ports.KubeletHealth))
		}},
		{name: "kube-proxy", node: true, command: proxyCommand, port: func(p Ports) int { return p.ProxyHealth }, ready: func(ctx context.Context, c *Cluster) error {
			return probeHTTP(ctx, http.DefaultClient, fmt.Sprintf("http://%s:%d/healthz", loopback, c.Ports.ProxyHealth))
		}},
	}
}

func noPort(Ports) int { return 0 }

// partsOf leaves out the node's parts where there is no node.
func partsOf(s Settings) []part {
	var chosen []part
	for _, p := range parts() {
		if !p.node || s.NodeParts {
			chosen = append(chosen, p)
		}
	}
	return chosen
}

// findPart finds a part by its name, with or without the prefix "kube-".
func findPart(s Settings, name string) (part, error) {
	var names []string
	for _, p := range partsOf(s) {
		if p.name == name || p.name == "kube-"+name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return part{}, fmt.Errorf("%q is no part of this cluster: it has %s", name, strings.Join(names, ", "))
}

func etcdCommand(c *Cluster) []string {
	client, peer := fmt.Sprintf("https://%s:%d", loopback, c.Ports.Etcd), fmt.Sprintf("https://%s:%d", loopback, c.Ports.EtcdPeer)
	return []string{c.binary("etcd"),
		"--name=" + c.NodeName,
		"--data-dir=" + c.Data("etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + c.NodeName + "=" + peer,
		"--client-cert-auth", "--trusted-ca-file=" + c.PKI("etcd-ca.crt"),
		"--cert-file=" + c.PKI("etcd.crt"), "--key-file=" + c.PKI("etcd.key"),
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + c.PKI("etcd-ca.crt"),
		"--peer-cert-file=" + c.PKI("etcd.crt"), "--peer-key-file=" + c.PKI("etcd.key"),
		"--logger=zap", "--log-level=warn",
	}
}

func apiserverCommand(c *Cluster) []string {
	args := []string{c.binary("kube-apiserver"),
		"--bind-address=" + c.apiAddress(), "--secure-port=" + strconv.Itoa(c.Ports.APIServer),
		"--cert-dir=" + c.Data("kube-apiserver"),
		"--tls-cert-file=" + c.PKI("kube-apiserver.crt"), "--tls-private-key-file=" + c.PKI("kube-apiserver.key"),
		"--client-ca-file=" + c.PKI("ca.crt"),
		"--etcd-servers=" + fmt.Sprintf("https://%s:%d", loopback, c.Ports.Etcd),
		"--etcd-cafile=" + c.PKI("etcd-ca.crt"), "--etcd-certfile=" + c.PKI("etcd-client.crt"), "--etcd-keyfile=" + c.PKI("etcd-client.key"),
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.PKI("service-account.pub"), "--service-account-signing-key-file=" + c.PKI("service-account.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-certificate-authority=" + c.PKI("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + c.PKI("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + c.PKI("apiserver-kubelet-client.key"),
		"--requestheader-client-ca-file=" + c.PKI("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.PKI("front-proxy-client.crt"), "--proxy-client-key-file=" + c.PKI("front-proxy-client.key"),
		"--profiling=false",
	}
	if c.NodeParts {
		return append(args, "--advertise-address="+c.NodeAddress)
	}
	// A loopback address is refused as an endpoint of the Service `kubernetes`, and no pod would use it.
	return append(args, "--endpoint-reconciler-type=none")
}

func controllerManagerCommand(c *Cluster) []string {
	kubeconfig := c.Config("kube-controller-manager.kubeconfig")
	return []string{c.binary("kube-controller-manager"),
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + loopback, "--secure-port=" + strconv.Itoa(c.Ports.ControllerManager),
		"--leader-elect=false", "--use-service-account-credentials=true", "--allocate-node-cidrs=false",
		"--root-ca-file=" + c.PKI("ca.crt"), "--service-account-private-key-file=" + c.PKI("service-account.key"),
		"--cluster-signing-cert-file=" + c.PKI("ca.crt"), "--cluster-signing-key-file=" + c.PKI("ca.key"),
		"--profiling=false",
	}
}

func schedulerCommand(c *Cluster) []string {
	kubeconfig := c.Config("kube-scheduler.kubeconfig")
	return []string{c.binary("kube-scheduler"),
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + loopback, "--secure-port=" + strconv.Itoa(c.Ports.Scheduler),
		"--leader-elect=false", "--profiling=false",
	}
}

func kubeletCommand(c *Cluster) []string {
	return []string{c.binary("kubelet"),
		"--config=" + c.Config("kubelet.yaml"), "--kubeconfig=" + c.Config("kubelet.kubeconfig"),
		"--root-dir=" + c.KubeletDir(), "--cert-dir=" + filepath.Join(c.KubeletDir(), "pki"),
		"--hostname-override=" + c.NodeName, "--node-ip=" + c.NodeAddress,
	}
}

func proxyCommand(c *Cluster) []string {
	return []string{c.binary("kube-proxy"), "--config=" + c.Config("kube-proxy.yaml")}
}

func containerdCommand(c *Cluster) []string {
	return []string{c.binary("containerd"), "--config=" + c.Config("containerd.toml"), "--log-level=info"}
}

func registryCommand(c *Cluster) []string {
	return []string{c.self, "serve-registry", "--listen=" + c.Registry(), "--data=" + c.Data("registry")}
}

func containerdReady(ctx context.Context, c *Cluster) error {
	connection, err := new(net.Dialer).DialContext(ctx, "unix", c.ContainerdSocket())
	if err != nil {
		return err
	}
	return connection.Close()
}
