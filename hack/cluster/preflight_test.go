package main

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMissingNamesPackages(t *testing.T) {
	everything := func(string) (string, bool) { return "/usr/sbin/x", true }
	if err := missing(everything, "/usr/lib/cni"); err != nil {
		t.Errorf("a complete machine lacks %v", err)
	}
	err := missing(func(program string) (string, bool) { return "", program == "ip" }, "")
	if err == nil {
		t.Fatal("a bare machine passes")
	}
	const install = "apt-get install runc nftables mount containernetworking-plugins"
	if !strings.HasSuffix(err.Error(), install) {
		t.Errorf("want %q at the end of %q", install, err)
	}
}

func TestOverlap(t *testing.T) {
	settings := defaultSettings("tag")
	for present, variable := range map[string]string{
		"192.168.1.10/24": "",
		"127.0.0.1/8":     "",
		"10.213.0.77/16":  "CLUSTER_POD_CIDR",
		"10.96.200.1/24":  "CLUSTER_SERVICE_CIDR",
		"10.213.1.9/24":   "CLUSTER_NODE_ADDRESS",
		"fe80::1/64":      "",
	} {
		err := overlap(settings, "eth0", netip.MustParsePrefix(present))
		if (err != nil) != (variable != "") || err != nil && !strings.Contains(err.Error(), "set "+variable) {
			t.Errorf("%s: %v", present, err)
		}
	}
}
