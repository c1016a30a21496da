package admissionconfig

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func manyNamespaces(n int, policy v1alpha1.ExecPolicy) map[string]v1alpha1.ExecPolicy {
	all := map[string]v1alpha1.ExecPolicy{}
	for i := range n {
		all[fmt.Sprintf("%s-%05d", policy, i)] = policy
	}
	return all
}

func with(all map[string]v1alpha1.ExecPolicy, more map[string]v1alpha1.ExecPolicy) map[string]v1alpha1.ExecPolicy {
	maps.Copy(all, more)
	return all
}

// TestExecScope says which namespaces are sent where, by the strictest policy of each.
func TestExecScope(t *testing.T) {
	names := func(n int, policy v1alpha1.ExecPolicy) []string {
		return slices.Sorted(maps.Keys(manyNamespaces(n, policy)))
	}
	one := func(policy v1alpha1.ExecPolicy) map[string]v1alpha1.ExecPolicy {
		return map[string]v1alpha1.ExecPolicy{"a": policy}
	}
	for name, test := range map[string]struct {
		policies map[string]v1alpha1.ExecPolicy
		want     ExecScope
	}{
		"none":        {nil, ExecScope{}},
		"allowed":     {one(v1alpha1.ExecAllow), ExecScope{}},
		"one of each": {map[string]v1alpha1.ExecPolicy{"a": v1alpha1.ExecDeny, "b": v1alpha1.ExecAudit, "c": ""}, ExecScope{Deny: []string{"a"}, Audit: Namespaces{Names: []string{"b", "c"}}}},
		"as many to record as are named": {with(manyNamespaces(MaxExecNamespaces, v1alpha1.ExecAudit), one(v1alpha1.ExecDeny)),
			ExecScope{Deny: []string{"a"}, Audit: Namespaces{Names: names(MaxExecNamespaces, v1alpha1.ExecAudit)}}},
		"too many to record": {with(manyNamespaces(MaxExecNamespaces+1, v1alpha1.ExecAudit), one(v1alpha1.ExecDeny)), ExecScope{Deny: []string{"a"}, Audit: Namespaces{All: true}}},
		"too many to deny": {with(manyNamespaces(MaxExecNamespaces+1, v1alpha1.ExecDeny), one(v1alpha1.ExecAudit)),
			ExecScope{Deny: names(MaxExecNamespaces, v1alpha1.ExecDeny), Audit: Namespaces{Names: []string{"Deny-10000", "a"}}, Beyond: 1}},
		"far too many to deny": {with(manyNamespaces(3*MaxExecNamespaces, v1alpha1.ExecDeny), one(v1alpha1.ExecAudit)),
			ExecScope{Deny: names(3*MaxExecNamespaces, v1alpha1.ExecDeny)[:MaxExecNamespaces], Audit: Namespaces{All: true}, Beyond: 2 * MaxExecNamespaces}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, NewExecScope(maps.All(test.policies))); diff != "" {
				t.Errorf("wanted (-), got (+):\n%s", clipped(diff))
			}
		})
	}
}

// TestExecNeverBlocksOthers: however many namespaces have interactive access denied, whoever is kept out by an outage is in
// one of them, and up to the bound all of them are.
func TestExecNeverBlocksOthers(t *testing.T) {
	for _, n := range []int{1, 999, 1000, 1001, 2500, MaxExecNamespaces, MaxExecNamespaces + 1} {
		policies := with(manyNamespaces(n, v1alpha1.ExecDeny), map[string]v1alpha1.ExecPolicy{"audited": v1alpha1.ExecAudit, "open": v1alpha1.ExecAllow})
		blocked := map[string]bool{}
		for _, w := range ValidatingExec(settings, NewExecScope(maps.All(policies)), []byte("ca")) {
			if *w.FailurePolicy != admissionregistrationv1.Fail {
				continue
			}
			selector, err := metav1.LabelSelectorAsSelector(w.NamespaceSelector)
			if err != nil {
				t.Fatal(err)
			}
			for namespace := range with(maps.Clone(policies), map[string]v1alpha1.ExecPolicy{"unknown": "", "kube-system": ""}) {
				if selector.Matches(labels.Set{corev1.LabelMetadataName: namespace}) {
					blocked[namespace] = true
				}
			}
		}
		for namespace := range blocked {
			if policies[namespace] != v1alpha1.ExecDeny {
				t.Errorf("%d namespaces: an outage keeps people out of %s", n, namespace)
			}
		}
		if want := min(n, MaxExecNamespaces); len(blocked) != want {
			t.Errorf("%d namespaces: an outage keeps people out of %d, want %d", n, len(blocked), want)
		}
	}
}

func clipped(diff string) string { return diff[:min(len(diff), 2000)] }

func TestStricterExec(t *testing.T) {
	order := []v1alpha1.ExecPolicy{v1alpha1.ExecAllow, v1alpha1.ExecAudit, v1alpha1.ExecDeny}
	for i, a := range order {
		for j, b := range order {
			if got := StricterExec(a, b); got != order[max(i, j)] {
				t.Errorf("the stricter of %s and %s is %s", a, b, got)
			}
		}
	}
	if got := StricterExec(v1alpha1.ExecAllow, ""); got == v1alpha1.ExecAllow {
		t.Error("what is not set allows")
	}
}

// TestValidatingExec holds whom an outage keeps out, and whom it lets in.
func TestValidatingExec(t *testing.T) {
	exempt := []string{"kube-system", "modelrights-system", "modelrights-node", "monitoring"}
	s := settings
	s.DenyExecPath, s.AuditExecPath = "/deny", "/audit"
	type part struct {
		Name     string
		Failure  admissionregistrationv1.FailurePolicyType
		Path     string
		Operator metav1.LabelSelectorOperator
		Names    []string
	}
	deny := part{DenyExec, admissionregistrationv1.Fail, "/deny", metav1.LabelSelectorOpIn, nil}
	audit := part{AuditExec, admissionregistrationv1.Ignore, "/audit", metav1.LabelSelectorOpIn, nil}
	in := func(p part, names ...string) part { p.Names = names; return p }
	allBut := func(p part, names ...string) part { p.Operator, p.Names = metav1.LabelSelectorOpNotIn, names; return p }
	for name, test := range map[string]struct {
		scope ExecScope
		want  []part
	}{
		"none":          {ExecScope{}, nil},
		"deny":          {ExecScope{Deny: []string{"a"}}, []part{in(deny, "a")}},
		"both":          {ExecScope{Deny: []string{"a"}, Audit: Namespaces{Names: []string{"b"}}}, []part{in(deny, "a"), in(audit, "b")}},
		"exempt alone":  {ExecScope{Deny: []string{"kube-system"}, Audit: Namespaces{Names: []string{"monitoring"}}}, nil},
		"exempt among":  {ExecScope{Deny: []string{"a", "kube-system"}}, []part{in(deny, "a")}},
		"audit for all": {ExecScope{Deny: []string{"a"}, Audit: Namespaces{All: true}}, []part{in(deny, "a"), allBut(audit, append(slices.Clone(exempt), "a")...)}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []part
			for _, w := range ValidatingExec(s, test.scope, []byte("ca")) {
				e := w.NamespaceSelector.MatchExpressions[0]
				if e.Key != "kubernetes.io/metadata.name" {
					t.Errorf("selects by %s, which tenants may set", e.Key)
				}
				got = append(got, part{w.Name, *w.FailurePolicy, *w.ClientConfig.Service.Path, e.Operator, e.Values})
				var resources []string
				for _, rule := range w.Rules {
					for _, resource := range rule.Resources {
						resources = append(resources, fmt.Sprint(resource, rule.Operations))
					}
				}
				if diff := cmp.Diff([]string{"pods/exec[CONNECT]", "pods/attach[CONNECT]", "pods/ephemeralcontainers[UPDATE]"}, resources); diff != "" {
					t.Errorf("rules, wanted (-), got (+):\n%s", diff)
				}
				if string(w.ClientConfig.CABundle) != "ca" || *w.TimeoutSeconds > 3 {
					t.Errorf("%+v", w)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("wanted (-), got (+):\n%s", diff)
			}
		})
	}
}

// TestSameExec: what API servers set by default is set, and the order says nothing.
func TestSameExec(t *testing.T) {
	want := ValidatingExec(settings, ExecScope{Deny: []string{"a"}, Audit: Namespaces{Names: []string{"b"}}}, []byte("ca"))
	live := []admissionregistrationv1.ValidatingWebhook{want[1], {Name: "of.others.example"}, want[0]}
	if !SameValidating(live, want) {
		t.Error("the same webhooks in another order count as others")
	}
	if SameValidating(live, want[:1]) || SameValidating(nil, want) || !SameValidating(nil, nil) {
		t.Error("webhooks are missing and nobody sees it")
	}
}
