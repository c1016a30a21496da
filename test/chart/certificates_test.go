package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestCertificatesNeedNoMore: whoever makes the certificates, the operator reads and writes webhook configurations by
// their names alone, writes its Secret only where it makes the certificates itself, and needs no file of them.
func TestCertificatesNeedNoMore(t *testing.T) {
	for certManager, external := range map[string]bool{"false": false, "true": true} {
		t.Run("cert-manager "+certManager, func(t *testing.T) {
			all := render(t, "--set", "certManager.enabled="+certManager)
			var secret, carried bool
			for name, rules := range rulesOf(t, all) {
				for _, rule := range rules {
					for _, resource := range rule.Resources {
						if strings.HasSuffix(resource, "webhookconfigurations") && len(rule.ResourceNames) == 0 {
							t.Errorf("%s may %v every one of %s", name, rule.Verbs, resource)
						}
					}
					secret = secret || (slices.Contains(rule.ResourceNames, "modelrights-serving-cert") && slices.Contains(rule.Verbs, "update"))
					carried = carried || (name == "Role "+operatorNamespace+"/modelrights-operator" && slices.Contains(rule.Resources, "configmaps"))
				}
			}
			if secret == external {
				t.Errorf("the operator may update the Secret: %t", secret)
			}
			if carried != external {
				t.Errorf("the operator may carry CAs over in its namespace: %t", carried)
			}
			for name, object := range all {
				for annotation := range object.GetAnnotations() {
					if strings.HasPrefix(annotation, "cert-manager.io/inject-") {
						t.Errorf("%s has two writers of its caBundle: %s", name, annotation)
					}
				}
			}
			pod := as[appsv1.Deployment](t, all, "Deployment "+operatorNamespace+"/modelrights-operator").Spec.Template.Spec
			if slices.ContainsFunc(pod.Containers[0].Args, func(arg string) bool { return strings.HasPrefix(arg, "--cert-dir") }) {
				t.Errorf("arguments %v", pod.Containers[0].Args)
			}
			for _, volume := range pod.Volumes {
				if volume.Name == "certs" {
					t.Error("the operator's pod has a directory for certificates")
				}
			}
		})
	}
}
