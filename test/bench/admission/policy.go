package main

import (
	"context"
	"math/rand/v2"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/test/bench/cluster"
)

const policyName = "bench-licensed-models"

// allowList is the ConfigMap of the policy: a line for the path of each licence, in random order, so that the search
// for one goes through half of them on average.
func allowList(licenses int) *corev1.ConfigMap {
	repositories := make([]string, licenses)
	for place, i := range rand.New(rand.NewPCG(1, 1)).Perm(licenses) {
		repositories[place] = cluster.ModelPath(i)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: benchNamespace, Name: policyName},
		Data:       map[string]string{"repositories": strings.Join(repositories, "\n")},
	}
}

// installPolicy has the API server itself allow in the policy's namespace, of images under the governed path, those of
// the list: what users write who have no operator. It knows neither namespaces nor terms nor other spellings.
func installPolicy(ctx context.Context, p *cluster.ControlPlane) error {
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: policyName},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			ParamKind: &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: podsCreate()[0],
			}}},
			Variables: []admissionregistrationv1.Variable{
				{Name: "repositories", Expression: `params.data.repositories.split("\n")`},
				{Name: "images", Expression: `object.spec.containers.map(c, c.image) + (has(object.spec.initContainers) ? object.spec.initContainers.map(c, c.image) : [])`},
			},
			Validations: []admissionregistrationv1.Validation{{
				Expression: `variables.images.all(i, !i.startsWith("` + strings.TrimSuffix(cluster.Governed, "**") + `") || variables.repositories.exists(r, i.startsWith(r + "/")))`,
				Message:    "the image is not licensed",
			}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policyName},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        policyName,
			ParamRef:          &admissionregistrationv1.ParamRef{Namespace: benchNamespace, Name: policyName, ParameterNotFoundAction: ptr.To(admissionregistrationv1.DenyAction)},
			MatchResources:    &admissionregistrationv1.MatchResources{NamespaceSelector: inNamespace(namespacePolicy)},
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	return p.Create(ctx, policy, binding)
}

// writeAllowList brings the policy's list to so many licences.
func writeAllowList(ctx context.Context, p *cluster.ControlPlane, licenses int) error {
	list := allowList(licenses)
	err := p.Client.Update(ctx, list)
	if client.IgnoreNotFound(err) == nil && err != nil {
		return p.Client.Create(ctx, list)
	}
	return err
}
