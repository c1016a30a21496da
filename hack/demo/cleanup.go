package main

import (
	"fmt"
	"strings"
)

// ours is the label of what the demo makes: it deletes and replaces nothing else.
const ours = "modelrights.dev/demo=true"

// guard refuses a cluster on which the demo would replace what is not its own.
func (d *demo) guard() error {
	if d.quietly("", "helm", "status", "modelrights", "-n", operatorNamespace).err == nil {
		d.installed = true
		if !strings.Contains(d.quietly("", "helm", "list", "-n", operatorNamespace, "--selector", ours, "--short").stdout, "modelrights") {
			return fmt.Errorf("modelrights is installed on this cluster, and not by the demo, which would replace its values: use another cluster, or uninstall it first")
		}
	}
	for _, object := range [][]string{
		{"namespace", "demo-ml-prod"}, {"namespace", "demo-ml-dev"}, {"namespace", "demo-ml-elsewhere"},
		{"modellicense", licence}, {"modellicense", seatsLicence}, {"modellicense", shortLicence}, {"secret", keySecret, "-n", operatorNamespace}, {"pod", "key-thief", "-n", "kube-system"},
	} {
		get := append([]string{"kubectl", "get", "-o", `jsonpath={.metadata.name} {.metadata.labels.modelrights\.dev/demo}`}, object...)
		found := d.quietly("", get...)
		if found.err == nil && !strings.HasSuffix(found.stdout, " true") {
			return fmt.Errorf("there is a %s %s on this cluster that is not the demo's, which would replace it: delete or rename it, or use another cluster", object[0], object[1])
		}
	}
	return nil
}

// clear takes away what demos made, but for the release.
func (d *demo) clear(run func(...string) result) {
	run("kubectl", "delete", "namespace", "-l", ours, "--ignore-not-found", "--timeout=120s")
	run("kubectl", "delete", "modellicense", "-l", ours, "--ignore-not-found")
	run("kubectl", "-n", operatorNamespace, "delete", "secret", "-l", ours, "--ignore-not-found")
	run("kubectl", "-n", "kube-system", "delete", "pod", "-l", ours, "--ignore-not-found")
}

func (d *demo) quietlyRun(args ...string) result { return d.quietly("", args...) }

// remove takes away what the demo made on a cluster that is not its own.
func (d *demo) remove() {
	if !d.began {
		return
	}
	d.clear(d.run)
	if !d.installed {
		d.run("helm", "uninstall", "modelrights", "-n", operatorNamespace, "--wait", "--timeout", "2m")
		fmt.Fprintln(d.screen, "The kinds, and with them the audit log, are left: delete the CustomResourceDefinitions of modelrights.dev to lose them.")
	}
	fmt.Fprintln(d.screen)
}
