//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const url = "--key-service-url=https://modelrights-keyservice.modelrights-system.svc"
	tests := map[string]struct {
		args  []string
		env   string
		wrong string // what the error says; empty where there is none
		check func(settings) bool
	}{
		"defaults": {args: []string{url, "--node-name=n"}, check: func(s settings) bool {
			return s.csiSocket == "/var/lib/kubelet/plugins/node.modelrights.dev/csi.sock" && s.registrationDir == "/var/lib/kubelet/plugins_registry"
		}},
		"node from the environment": {args: []string{url}, env: "node-a", check: func(s settings) bool { return s.nodeName == "node-a" }},
		"another kubelet directory": {args: []string{url, "--node-name=n", "--kubelet-dir=/data/kubelet"}, check: func(s settings) bool {
			return s.csiSocket == "/data/kubelet/plugins/node.modelrights.dev/csi.sock" && s.registrationDir == "/data/kubelet/plugins_registry"
		}},
		"paths given": {args: []string{url, "--node-name=n", "--csi-socket=/run/csi.sock", "--registration-dir=/run/reg"}, check: func(s settings) bool {
			return s.csiSocket == "/run/csi.sock" && s.registrationDir == "/run/reg"
		}},
		"version needs nothing else": {args: []string{"--version"}, check: func(s settings) bool { return s.printVersionOnly }},
		"no node":                    {args: []string{url}, wrong: "--node-name"},
		"no service":                 {args: []string{"--node-name=n"}, wrong: "--key-service-url"},
		"relative directory":         {args: []string{url, "--node-name=n", "--kubelet-dir=kubelet"}, wrong: "--kubelet-dir"},
		"directory that climbs":      {args: []string{url, "--node-name=n", "--kubelet-dir=/var/lib/../kubelet"}, wrong: "--kubelet-dir"},
		"log level":                  {args: []string{url, "--node-name=n", "--log-level=trace"}, wrong: "--log-level"},
		"stray argument":             {args: []string{url, "--node-name=n", "serve"}, wrong: `"serve"`},
		"unknown flag":               {args: []string{"--kubeconfig=x"}, wrong: "kubeconfig"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := parse(tc.args, func(string) string { return tc.env })
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("error %v, want one about %s", err, tc.wrong)
				}
				return
			}
			if err != nil || !tc.check(s) {
				t.Errorf("error %v, settings %+v", err, s)
			}
		})
	}
}
