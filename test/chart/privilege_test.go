package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// rulesOf returns the rules of every Role and ClusterRole, by identity.
func rulesOf(t *testing.T, all map[string]*unstructured.Unstructured) map[string][]rbacv1.PolicyRule {
	t.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	for name, object := range all {
		if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role); err != nil {
			t.Fatal(err)
		}
		rules[name] = role.Rules
	}
	return rules
}

// TestLeastPrivilege holds what no role may ever say.
func TestLeastPrivilege(t *testing.T) {
	for _, certManager := range []string{"false", "true"} {
		t.Run("cert-manager "+certManager, func(t *testing.T) {
			for name, rules := range rulesOf(t, render(t, "--set", "certManager.enabled="+certManager)) {
				for _, rule := range rules {
					holdToLeast(t, name, rule)
				}
			}
		})
	}
}

func holdToLeast(t *testing.T, name string, rule rbacv1.PolicyRule) {
	t.Helper()
	if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
		t.Errorf("%s has a wildcard: %v", name, rule)
	}
	if strings.HasPrefix(name, "ClusterRole ") && slices.Contains(rule.Resources, "secrets") {
		t.Errorf("%s reaches Secrets of every namespace: %v", name, rule)
	}
	writes := slices.ContainsFunc(rule.Verbs, func(verb string) bool {
		return !slices.Contains([]string{"get", "list", "watch"}, verb)
	})
	if !writes {
		return
	}
	for _, resource := range rule.Resources {
		if strings.HasPrefix(resource, "modelaudit") && name != "ClusterRole /modelrights-operator" {
			t.Errorf("%s writes %s, which only the operator does", name, resource)
		}
		if resource == "modelauditrecords" && !slices.Equal(rule.Verbs, []string{"create", "get", "list", "watch"}) {
			t.Errorf("%s may %v %s", name, rule.Verbs, resource)
		}
		if strings.HasSuffix(resource, "/status") && len(rule.Verbs) != 1 && resource != "modelgrants/status" {
			t.Errorf("%s may %v %s: one verb writes it", name, rule.Verbs, resource)
		}
		named := len(rule.ResourceNames) > 0 || slices.Equal(rule.Verbs, []string{"create"})
		if !named && (slices.Contains([]string{"secrets", "configmaps", "leases"}, resource) || strings.HasSuffix(resource, "webhookconfigurations")) {
			t.Errorf("%s may %v any of %s: name them", name, rule.Verbs, resource)
		}
	}
}

// TestOperatorWrites lists what the operator may write in every namespace, whole: what is new here has been thought about.
// A name after the resource means that it alone may be written.
func TestOperatorWrites(t *testing.T) {
	want := map[string][]string{
		"modellicenses/status":   {"patch"},
		"modelgrants/status":     {"patch", "update"},
		"modelseats":             {"create", "delete", "update"},
		"modelauditrecords":      {"create"},
		"modelauditlogs":         {"create"},
		"modelauditlogs cluster": {"patch"},
		"modelauditlogs/status":  {"update"},
		"pods":                   {"delete", "patch"},
		"pods/status":            {"patch"},
		"pods/eviction":          {"create"},
		"events":                 {"create", "patch"},
		"tokenreviews":           {"create"},
		"mutatingwebhookconfigurations modelrights-pods":        {"patch"},
		"validatingwebhookconfigurations modelrights-pods":      {"patch"},
		"validatingwebhookconfigurations modelrights-workloads": {"patch"},
		"validatingwebhookconfigurations modelrights-exec":      {"patch"},
	}
	got := map[string][]string{}
	for _, rule := range rulesOf(t, render(t))["ClusterRole /modelrights-operator"] {
		writes := slices.DeleteFunc(slices.Clone(rule.Verbs), func(verb string) bool { return slices.Contains([]string{"get", "list", "watch"}, verb) })
		if len(writes) == 0 {
			continue
		}
		names := []string{""}
		if len(rule.ResourceNames) > 0 {
			names = nil
			for _, name := range rule.ResourceNames {
				names = append(names, " "+name)
			}
		}
		slices.Sort(writes)
		for _, resource := range rule.Resources {
			for _, name := range names {
				got[resource+name] = writes
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the operator may write, wanted (-) and rendered (+):\n%s", diff)
	}
}

// publicInfo is what everybody who is authenticated may read, and nobody of ours writes.
const publicInfo = "kube-public/modelrights-info"

// TestConfigMaps: the operator's permission in the node driver's namespace is one object, and everybody's is to read one.
func TestConfigMaps(t *testing.T) {
	for name, rules := range rulesOf(t, render(t)) {
		for _, rule := range rules {
			if !slices.Contains(rule.Resources, "configmaps") {
				continue
			}
			public := name == "Role "+publicInfo && slices.Equal(rule.ResourceNames, []string{"modelrights-info"}) && slices.Equal(rule.Verbs, []string{"get"})
			if !public && (name != "Role "+nodeNamespace+"/modelrights-operator" || !slices.Equal(rule.ResourceNames, []string{"modelrights-ca"})) {
				t.Errorf("%s may %v ConfigMaps %v", name, rule.Verbs, rule.ResourceNames)
			}
		}
	}
}

// TestGrantVerb: the verb that consents on the licensor's side is in one role alone, and in none that is aggregated.
func TestGrantVerb(t *testing.T) {
	all := render(t)
	for name, rules := range rulesOf(t, all) {
		for _, rule := range rules {
			if !slices.Contains(rule.Verbs, "grant") {
				continue
			}
			if name != "ClusterRole /modelrights-license-admin" {
				t.Errorf("%s holds the verb grant", name)
			}
			for label := range all[name].GetLabels() {
				if strings.HasPrefix(label, "rbac.authorization.k8s.io/aggregate-to-") {
					t.Errorf("%s holds the verb grant and is aggregated by %s", name, label)
				}
			}
		}
	}
}

// TestNodeDriverHasNoPermission: no role is bound to the node driver's account but everybody's, and no token for the API
// server is mounted.
func TestNodeDriverHasNoPermission(t *testing.T) {
	all := render(t)
	for name, object := range all {
		if name == "RoleBinding "+publicInfo {
			continue
		}
		subjects, _, _ := unstructured.NestedSlice(object.Object, "subjects")
		for _, subject := range subjects {
			if account, _ := subject.(map[string]any); account["name"] != "modelrights-operator" {
				t.Errorf("%s binds %v", name, account["name"])
			}
		}
	}
	pod := as[appsv1.DaemonSet](t, all, "DaemonSet "+nodeNamespace+"/modelrights-node").Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the node driver's pod mounts a token for the API server")
	}
	for _, volume := range pod.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil && source.ServiceAccountToken.Audience != "modelrights.dev/driver" {
				t.Errorf("the node driver's token is for %q", source.ServiceAccountToken.Audience)
			}
		}
	}
}

// TestNodeDriverIsNoMorePrivilegedThanItMustBe: it must mount into the pods' directories, and that is all.
func TestNodeDriverIsNoMorePrivilegedThanItMustBe(t *testing.T) {
	pod := as[appsv1.DaemonSet](t, render(t, "--set", "node.kubeletDir=/data/kubelet"), "DaemonSet "+nodeNamespace+"/modelrights-node").Spec.Template.Spec
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("the node driver shares a namespace of the host")
	}
	allowed := []string{"/data/kubelet/plugins/node.modelrights.dev", "/data/kubelet/plugins_registry", "/data/kubelet/pods"}
	for _, volume := range pod.Volumes {
		if volume.HostPath != nil && !slices.Contains(allowed, volume.HostPath.Path) {
			t.Errorf("the node driver sees %s of the host", volume.HostPath.Path)
		}
	}
	container := pod.Containers[0]
	if !*container.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the node driver's root file system is writable")
	}
	for _, mount := range container.VolumeMounts {
		bidirectional := mount.MountPropagation != nil && *mount.MountPropagation == corev1.MountPropagationBidirectional
		if bidirectional != (mount.MountPath == "/data/kubelet/pods") {
			t.Errorf("%s: mount propagation is bidirectional: %t", mount.MountPath, bidirectional)
		}
	}
}
