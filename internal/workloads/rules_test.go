package workloads

import (
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// summary writes rules as group/version: resources.
func summary(rules []admissionregistrationv1.RuleWithOperations) []string {
	var all []string
	for _, r := range rules {
		all = append(all, fmt.Sprintf("%s/%s: %v", r.APIGroups[0], r.APIVersions[0], r.Resources))
	}
	return all
}

var builtInRules = []string{
	"/v1: [podtemplates replicationcontrollers]", "apps/v1: [daemonsets deployments replicasets statefulsets]", "batch/v1: [cronjobs jobs]",
}

func TestRules(t *testing.T) {
	groups := Groups{"b.example": nil, "a.example": {"ones", "twos"}, "absent.example": nil}
	tests := map[string]struct {
		definitions []string
		want        []string
	}{
		"no custom resources":       {nil, nil},
		"only those of the groups":  {[]string{"xs.other.example", "ones.b.example.org", "threes.a.example", "ones.a.example"}, []string{"a.example/*: [ones]"}},
		"all of a group":            {[]string{"ys.b.example", "xs.b.example"}, []string{"b.example/*: [xs ys]"}},
		"sorted, each once":         {[]string{"xs.b.example", "twos.a.example", "xs.b.example", "ones.a.example"}, []string{"a.example/*: [ones twos]", "b.example/*: [xs]"}},
		"names that no API has":     {[]string{"", "nothing", "."}, nil},
		"a group within a longer":   {[]string{"ones.x.a.example"}, nil},
		"plural that looks like it": {[]string{"b.example"}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rules, complete := Rules(tc.definitions, groups)
			if diff := gocmp.Diff(slices.Concat(builtInRules, tc.want), summary(rules)); diff != "" || !complete {
				t.Errorf("complete %t, rules (-want +got):\n%s", complete, diff)
			}
			for _, r := range rules {
				if *r.Scope != admissionregistrationv1.NamespacedScope {
					t.Errorf("scope %s", *r.Scope)
				}
				if !slices.Equal(r.Operations, []admissionregistrationv1.OperationType{"CREATE", "UPDATE"}) {
					t.Errorf("operations %v", r.Operations)
				}
			}
		})
	}
}

func TestRulesAreBounded(t *testing.T) {
	groups := Groups{}
	var definitions []string
	for i := range 2 * MaxRuleGroups {
		group := fmt.Sprintf("g%03d.example", i)
		groups[group] = nil
		for j := range 2 * MaxRuleResources {
			definitions = append(definitions, fmt.Sprintf("r%03d.%s", j, group))
		}
	}
	first, complete := Rules(definitions, groups)
	if complete || len(first) != len(builtInRules)+MaxRuleGroups {
		t.Errorf("%d rules, complete %t", len(first), complete)
	}
	for _, r := range first {
		if len(r.Resources) > MaxRuleResources {
			t.Errorf("a rule has %d resources", len(r.Resources))
		}
	}
	slices.Reverse(definitions)
	second, _ := Rules(definitions, groups)
	if diff := gocmp.Diff(first, second); diff != "" {
		t.Errorf("the order of the definitions matters:\n%s", diff)
	}
}
