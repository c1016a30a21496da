package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func testValues(dir string) values {
	layout := newLayout("/src", dir)
	return newValues(defaultSettings(layout.tag()), layout, host{runc: "/usr/sbin/runc", cniBin: "/usr/lib/cni", snapshotter: "overlayfs"})
}

func TestRenderedConfig(t *testing.T) {
	for name, wanted := range map[string][]string{
		"containerd.toml": {"restrict_oom_score_adj = true", "SystemdCgroup = false", `sandbox = "` + pauseImage + `"`, `BinaryName = "/usr/sbin/runc"`,
			`address = "/c/containerd/containerd.sock"`, "netns_mounts_under_state_dir = true", "disable_apparmor = true"},
		"kubelet.yaml": {"failCgroupV1: false", "cgroupDriver: cgroupfs", "clusterDNS: [10.96.0.10]", "makeIPTablesUtilChains: false",
			"cgroupRoot: /modelrights-", "port: 17250", "podLogsDir: /c/pod-logs"},
		"kube-proxy.yaml": {"mode: nftables", "maxPerCore: 0", "clusterCIDR: 10.213.0.0/24", "hostnameOverride: node-1"},
		"hosts.toml":      {`server = "http://10.213.1.1:17500"`},
		"coredns.yaml":    {"clusterIP: 10.96.0.10", "image: " + corednsImage, "imagePullPolicy: Never"},
		"env":             {"export KUBECONFIG='/c/kubeconfig'", "export KUBELET_DIR='/c/kubelet'", "export REGISTRY='10.213.1.1:17500'"},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := render(name, testValues("/c"))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte("<no value>")) {
				t.Errorf("a value is missing in:\n%s", content)
			}
			for _, want := range wanted {
				if !strings.Contains(string(content), want) {
					t.Errorf("%q is not in:\n%s", want, content)
				}
			}
		})
	}
}

func TestPodNetworkIsJSON(t *testing.T) {
	content, err := render("cni.conflist", testValues("/c"))
	if err != nil {
		t.Fatal(err)
	}
	var network struct{ Name string }
	if err := json.Unmarshal(content, &network); err != nil || network.Name != newLayout("/src", "/c").CNINetwork() {
		t.Errorf("%v, name %q, in:\n%s", err, network.Name, content)
	}
}

func TestShellQuote(t *testing.T) {
	const word = "it's $HOME `x` \"y\""
	output, err := exec.Command("sh", "-c", "printf %s "+shellQuote(word)).Output()
	if err != nil || string(output) != word {
		t.Errorf("the shell reads %q, %v", output, err)
	}
}

func TestCertificates(t *testing.T) {
	v := testValues(t.TempDir())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := writePKI(v.Layout, v.Settings, now); err != nil {
		t.Fatal(err)
	}
	load := func(name string) *x509.Certificate {
		t.Helper()
		content, err := os.ReadFile(v.Layout.PKI(name + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(content)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	authorities := certificates(v.Settings)
	for authority, leaves := range authorities {
		roots := x509.NewCertPool()
		roots.AddCert(load(authority))
		for _, wanted := range leaves {
			usage := x509.ExtKeyUsageClientAuth
			if wanted.server {
				usage = x509.ExtKeyUsageServerAuth
			}
			certificate := load(wanted.file)
			if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s: %v", wanted.file, err)
			}
			for _, host := range append(wanted.dns, wanted.addresses...) {
				if err := certificate.VerifyHostname(host); err != nil {
					t.Errorf("%s: %v", wanted.file, err)
				}
			}
			if info, err := os.Stat(v.Layout.PKI(wanted.file + ".key")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("key of %s: %v, %v", wanted.file, info.Mode(), err)
			}
		}
	}
	etcd := x509.NewCertPool()
	etcd.AddCert(load("etcd-ca"))
	if _, err := load("admin").Verify(x509.VerifyOptions{Roots: etcd, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("a certificate for the API server opens etcd")
	}
}
