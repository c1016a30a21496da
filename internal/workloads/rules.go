package workloads

import (
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"
)

// Bounds of the rules of a webhook configuration. A cluster has a few dozen of the groups at most.
const (
	// MaxRuleGroups is for how many groups of custom resources there are rules.
	MaxRuleGroups = 64
	// MaxRuleResources is how many resources one rule names.
	MaxRuleResources = 64
)

// Rules are those of a webhook for workloads: for CREATE and UPDATE of the built-in kinds with pod templates, and of the
// custom resources that exist and are of the given groups. Definitions are the names of the CustomResourceDefinitions,
// PLURAL.GROUP. The same arguments give the same rules, whatever their order; what is beyond the bounds, in order of the
// names, is left out, and complete is false then. Rules are for namespaced resources, whatever the definitions say, and for
// all versions, so that a definition's name says enough.
func Rules(definitions []string, groups Groups) (rules []admissionregistrationv1.RuleWithOperations, complete bool) {
	rules = []admissionregistrationv1.RuleWithOperations{
		ruleFor("", "v1", "podtemplates", "replicationcontrollers"),
		ruleFor("apps", "v1", "daemonsets", "deployments", "replicasets", "statefulsets"),
		ruleFor("batch", "v1", "cronjobs", "jobs"),
	}
	existing := map[string][]string{}
	for _, name := range definitions {
		plural, group, ok := strings.Cut(name, ".")
		if !ok {
			continue
		}
		if resources, known := groups[group]; known && (resources == nil || slices.Contains(resources, plural)) {
			existing[group] = append(existing[group], plural)
		}
	}
	complete = true
	for i, group := range slices.Sorted(maps.Keys(existing)) {
		if i == MaxRuleGroups {
			return rules, false
		}
		resources := existing[group]
		slices.Sort(resources)
		resources = slices.Compact(resources)
		if len(resources) > MaxRuleResources {
			resources, complete = resources[:MaxRuleResources], false
		}
		rules = append(rules, ruleFor(group, "*", resources...))
	}
	return rules, complete
}

func ruleFor(group, version string, resources ...string) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources,
			Scope: ptr.To(admissionregistrationv1.NamespacedScope),
		},
	}
}

// MatchConditions keep away from the webhook for workloads what it has nothing to say about: objects that a controller
// made, objects that are being deleted, and updates that leave the spec alone, which the API server counts in
// metadata.generation before it asks. None of them can fail: what a field is for is asked only where it is there.
func MatchConditions() []admissionregistrationv1.MatchCondition {
	return []admissionregistrationv1.MatchCondition{
		{
			Name:       "not-made-by-a-controller",
			Expression: `!has(object.metadata.ownerReferences) || !object.metadata.ownerReferences.exists(o, has(o.controller) && o.controller)`,
		},
		{
			Name:       "not-being-deleted",
			Expression: `!has(object.metadata.deletionTimestamp)`,
		},
		{
			Name: "spec-is-written",
			Expression: `request.operation != 'UPDATE' || !has(object.metadata.generation) || !has(oldObject.metadata.generation)` +
				` || object.metadata.generation != oldObject.metadata.generation`,
		},
	}
}
