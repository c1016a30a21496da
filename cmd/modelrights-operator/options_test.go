package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestOptions(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string // a part of the error; empty: none
	}{
		"what the chart sets":     {args: []string{"--operator-namespace=modelrights-system", "--governed-repository=registry.example.com/models/**"}},
		"no namespace":            {want: "--operator-namespace"},
		"no node namespace":       {args: []string{"--operator-namespace=a", "--node-namespace="}, want: "--node-namespace"},
		"no node service account": {args: []string{"--operator-namespace=a", "--node-service-account="}, want: "--node-service-account"},
		"no service account":      {args: []string{"--operator-namespace=a", "--operator-service-account="}, want: "--operator-service-account"},
		"unknown certificates":    {args: []string{"--operator-namespace=a", "--cert-management=magic"}, want: `--cert-management is "magic"`},
		"unknown level":           {args: []string{"--operator-namespace=a", "--log-level=loud"}, want: `--log-level is "loud"`},
		"a table":                 {args: []string{"--operator-namespace=a", `--workload-table={"workloads":[{"group":"serving.example.com","images":["spec.model"]}]}`}},
		"wrong table":             {args: []string{"--operator-namespace=a", `--workload-table={"workloads":[{"group":"apps"}]}`}, want: "--workload-table: workloads[0]"},
		"profiles for all":        {args: []string{"--operator-namespace=a", "--pprof-bind-address=:6060"}, want: `--pprof-bind-address is ":6060"`},
		"profiles by name":        {args: []string{"--operator-namespace=a", "--pprof-bind-address=localhost:6060"}, want: "--pprof-bind-address"},
		"profiles":                {args: []string{"--operator-namespace=a", "--pprof-bind-address=127.0.0.1:6060"}},
		"too often":               {args: []string{"--operator-namespace=a", "--resolve-interval=1s"}, want: "--resolve-interval is 1s"},
		"two mistakes":            {args: []string{"--operator-namespace=a", "--cert-management=magic", "--log-level=loud"}, want: "--log-level"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", "")
			var o options
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			o.addFlags(flags)
			if err := flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := o.validate()
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error = %v, want one that says %s", err, tc.want)
			}
		})
	}
}

func TestExemptNamespacesAreProtected(t *testing.T) {
	o := options{namespace: "operator", nodeNamespace: "node", exemptNamespaces: []string{"monitoring"}}
	if got := strings.Join(o.exempt(), " "); got != "operator node monitoring" {
		t.Errorf("exempt are %s", got)
	}
	if got := strings.Join(o.protected(), " "); got != "kube-system operator node monitoring" {
		t.Errorf("protected are %s", got)
	}
	if len(o.exemptNamespaces) != 1 {
		t.Errorf("the flag was changed: %v", o.exemptNamespaces)
	}
}
