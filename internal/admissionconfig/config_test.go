package admissionconfig

import (
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/prefilter"
)

var settings = Settings{
	ServiceNamespace: "modelrights-system", ServiceName: "modelrights-webhook",
	MutatePodsPath: "/mutate", ValidatePodsPath: "/validate", ValidateWorkloadsPath: "/workloads",
	ExemptNamespaces: []string{"modelrights-system", "modelrights-node", "", "monitoring", "kube-system"},
}

func governing(t *testing.T, repository string) State {
	t.Helper()
	p, err := images.ParsePattern(repository)
	if err != nil {
		t.Fatal(err)
	}
	return State{
		Filter: prefilter.New(slices.Values([]images.Pattern{p})), CABundle: []byte("ca"),
		WorkloadRules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create}}},
	}
}

// TestPods holds what an outage and what a bypass depend on.
func TestPods(t *testing.T) {
	state := governing(t, "registry.example.com/models/**")
	mutating, validating := MutatingPods(settings, state)[0], ValidatingPods(settings, state)[0]
	if *mutating.FailurePolicy != admissionregistrationv1.Fail || *validating.FailurePolicy != admissionregistrationv1.Fail {
		t.Error("a stopped operator would let governed pods through")
	}
	if *mutating.MatchPolicy != admissionregistrationv1.Equivalent || *validating.MatchPolicy != admissionregistrationv1.Equivalent {
		t.Error("another version of pods would get past")
	}
	if *mutating.TimeoutSeconds != 3 || *validating.TimeoutSeconds != 3 {
		t.Error("timeouts are not 3 s")
	}
	exempt := []string{"kube-system", "modelrights-system", "modelrights-node", "monitoring"}
	for _, selector := range []*[]string{&mutating.NamespaceSelector.MatchExpressions[0].Values, &validating.NamespaceSelector.MatchExpressions[0].Values} {
		if !slices.Equal(*selector, exempt) {
			t.Errorf("exempts %v, want %v", *selector, exempt)
		}
	}
	if key := validating.NamespaceSelector.MatchExpressions[0].Key; key != "kubernetes.io/metadata.name" {
		t.Errorf("exempts by %s, which tenants may set", key)
	}
	var resources []string
	for _, rule := range validating.Rules {
		resources = append(resources, rule.Resources...)
	}
	if !slices.Equal(resources, []string{"pods", "pods/ephemeralcontainers", "pods/resize"}) {
		t.Errorf("rules name %v", resources)
	}
	for _, conditions := range [][]admissionregistrationv1.MatchCondition{mutating.MatchConditions, validating.MatchConditions} {
		if FilterExpression(conditions) != state.Filter.Expression() || !strings.Contains(conditions[0].Expression, "'system:nodes'") {
			t.Errorf("conditions are %v", conditions)
		}
	}
	if *mutating.ClientConfig.Service.Path != "/mutate" || *validating.ClientConfig.Service.Path != "/validate" {
		t.Error("paths are mixed up")
	}
}

func TestWorkloads(t *testing.T) {
	state := governing(t, "registry.example.com/models/**")
	got := ValidatingWorkloads(settings, state)
	if len(got) != 1 || *got[0].FailurePolicy != admissionregistrationv1.Ignore || *got[0].TimeoutSeconds != 1 || *got[0].SideEffects != admissionregistrationv1.SideEffectClassNone {
		t.Fatalf("got %+v", got)
	}
	for name, none := range map[string]State{
		"no rules":         {Filter: state.Filter},
		"nothing governed": {WorkloadRules: state.WorkloadRules},
	} {
		if got := ValidatingWorkloads(settings, none); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSame(t *testing.T) {
	want := ValidatingPods(settings, governing(t, "registry.example.com/models/**"))
	other := admissionregistrationv1.ValidatingWebhook{Name: "validate.example.com"}
	tests := map[string]struct {
		live []admissionregistrationv1.ValidatingWebhook
		want []admissionregistrationv1.ValidatingWebhook
		same bool
	}{
		"as written":               {want, want, true},
		"with one of others":       {append(slices.Clone(want), other), want, true},
		"none":                     {nil, want, false},
		"another filter":           {ValidatingPods(settings, governing(t, "registry.example.com/code")), want, false},
		"none wanted, none there":  {[]admissionregistrationv1.ValidatingWebhook{other}, nil, true},
		"none wanted, one is left": {want, nil, false},
	}
	for name, tc := range tests {
		if got := SameValidating(tc.live, tc.want); got != tc.same {
			t.Errorf("%s: same is %t", name, got)
		}
	}
}

// TestApply: what is applied is what is wanted, and no field more.
func TestApply(t *testing.T) {
	state := governing(t, "registry.example.com/models/**")
	mutating, err := MutatingApply(Pods, MutatingPods(settings, state))
	if err != nil || len(mutating.Webhooks) != 1 || *mutating.Webhooks[0].Name != MutatePods || len(mutating.Webhooks[0].MatchConditions) != 2 {
		t.Errorf("%+v, %v", mutating, err)
	}
	none, err := ValidatingApply(Workloads, nil)
	if err != nil || len(none.Webhooks) != 0 || *none.Name != Workloads {
		t.Errorf("%+v, %v", none, err)
	}
}
