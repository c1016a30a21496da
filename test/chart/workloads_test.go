package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"modelrights.dev/modelrights/internal/workloads"
)

// operatorArguments are those of the operator's container, as the kubelet gives them.
func operatorArguments(t *testing.T, args ...string) []string {
	t.Helper()
	deployment := as[appsv1.Deployment](t, render(t, args...), "Deployment "+operatorNamespace+"/modelrights-operator")
	var all []string
	for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
		all = append(all, strings.ReplaceAll(arg, "$$", "$"))
	}
	return all
}

// TestWorkloadValues: what the values say of workloads reaches the operator, which takes it.
func TestWorkloadValues(t *testing.T) {
	for _, arg := range operatorArguments(t) {
		if strings.HasPrefix(arg, "--workload-table") || arg == "--deny-custom-workloads" {
			t.Errorf("by default the operator gets %s", arg)
		}
	}
	args := operatorArguments(t, "--set", "workloads.customResources=Deny", "--set-json",
		`workloads.table=[{"group":"serving.example.com","kinds":["Model"],"images":["spec.model","spec.$(x)" ,{"path":"spec.engine","parts":{"repository":"repo"}}]}]`)
	if !slices.Contains(args, "--deny-custom-workloads") {
		t.Errorf("custom workloads are not denied: %q", args)
	}
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--workload-table=") })
	if i < 0 {
		t.Fatalf("the table does not reach the operator: %q", args)
	}
	table := strings.TrimPrefix(args[i], "--workload-table=")
	if !strings.Contains(table, `"spec.$(x)"`) {
		t.Errorf("the kubelet makes something else of the table: %s", table)
	}
	if _, err := workloads.ParseTable([]byte(strings.Replace(table, "$(x)", "x", 1))); err != nil {
		t.Errorf("the operator refuses the table: %v", err)
	}
}

func TestWrongWorkloadValues(t *testing.T) {
	for name, test := range map[string]struct{ set, want string }{
		"neither Warn nor Deny": {`workloads.customResources="Block"`, "value must be one of 'Warn', 'Deny'"},
		"no group":              {`workloads.table=[{"images":["spec.a"]}]`, "missing property 'group'"},
		"a built-in group":      {`workloads.table=[{"group":"apps"}]`, "at '/workloads/table/0/group'"},
		"unknown field":         {`workloads.table=[{"group":"e.example","image":["a"]}]`, "additional properties 'image' not allowed"},
		"unknown part":          {`workloads.table=[{"group":"e.example","images":[{"path":"a","parts":{"tags":"b"}}]}]`, "at '/workloads/table/0/images/0'"},
		"a path as a number":    {`workloads.table=[{"group":"e.example","texts":[3]}]`, "at '/workloads/table/0/texts/0': got number, want string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := template(t, "--set-json", test.set); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("helm template says of %s: %v, want %q in it", test.set, err, test.want)
			}
		})
	}
}

// TestCustomResourceDefinitionsAreOnlyRead: the rules of the webhook follow them.
func TestCustomResourceDefinitionsAreOnlyRead(t *testing.T) {
	role := as[rbacv1.ClusterRole](t, render(t), "ClusterRole /modelrights-operator")
	found := false
	for _, rule := range role.Rules {
		if slices.Contains(rule.Resources, "customresourcedefinitions") {
			found = true
			if !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
				t.Errorf("the operator may %v CustomResourceDefinitions", rule.Verbs)
			}
		}
	}
	if !found {
		t.Error("the operator may not watch CustomResourceDefinitions")
	}
}
