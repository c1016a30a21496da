// Package admissionconfig makes the webhook configurations of the operator from what it governs. It is pure: controllers
// apply what it makes. The chart brings the configurations without webhooks, so that it owns when they come and go, and
// the operator alone what they hold.
package admissionconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyadmissionv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/internal/prefilter"
	"modelrights.dev/modelrights/internal/workloads"
)

// Names of the configurations and of their webhooks.
const (
	// Pods is the name of the mutating and of the validating configuration for pods: the enforcement.
	Pods = "modelrights-pods"
	// Workloads is the name of the validating configuration for workloads: early feedback.
	Workloads = "modelrights-workloads"
	// Exec is the name of the validating configuration for interactive access to pods that hold a key.
	Exec = "modelrights-exec"

	// MutatePods, ValidatePods and ValidateWorkloads are the webhooks, one in each configuration.
	MutatePods        = "mutate.pods.modelrights.dev"
	ValidatePods      = "validate.pods.modelrights.dev"
	ValidateWorkloads = "validate.workloads.modelrights.dev"
)

const (
	servicePort = 443

	// podTimeout and workloadTimeout are the webhooks' timeoutSeconds.
	podTimeout      = 3
	workloadTimeout = 1

	kubeSystem = "kube-system"
	nodesGroup = "system:nodes"
)

// Settings are what stays the same while an operator runs.
type Settings struct {
	// Operator is the user name of the operator's service account, which removes the scheduling gates of pods. Empty: its
	// updates are sent like anybody's.
	Operator string
	// ServiceNamespace and ServiceName are the Service of the webhooks, at port 443.
	ServiceNamespace, ServiceName string
	// MutatePodsPath, ValidatePodsPath and ValidateWorkloadsPath are where they answer, DenyExecPath and AuditExecPath where
	// those for interactive access do.
	MutatePodsPath, ValidatePodsPath, ValidateWorkloadsPath string
	DenyExecPath, AuditExecPath                             string
	// ExemptNamespaces are the namespaces whose objects are never sent, besides kube-system: the operator's, the node
	// driver's, and those of the platform team's choice. They are told by kubernetes.io/metadata.name, the label that
	// nobody but the API server sets.
	ExemptNamespaces []string
}

// State is what the configurations are made of beside Settings.
type State struct {
	// Filter says which pods are sent.
	Filter prefilter.Filter
	// CABundle is what the webhooks' certificates are verified with, PEM.
	CABundle []byte
	// WorkloadRules are the rules of the webhook for workloads. Without any, there is none.
	WorkloadRules []admissionregistrationv1.RuleWithOperations
}

// MutatingPods is the webhook that brings keys into pods: a convenience. Every field that the API server would set is set.
func MutatingPods(s Settings, state State) []admissionregistrationv1.MutatingWebhook {
	return []admissionregistrationv1.MutatingWebhook{{
		Name:                    MutatePods,
		ClientConfig:            s.client(s.MutatePodsPath, state.CABundle),
		Rules:                   []admissionregistrationv1.RuleWithOperations{podRule("pods", admissionregistrationv1.Create)},
		FailurePolicy:           ptr.To(admissionregistrationv1.Fail),
		MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
		NamespaceSelector:       s.namespaceSelector(),
		ObjectSelector:          &metav1.LabelSelector{},
		SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNoneOnDryRun),
		TimeoutSeconds:          ptr.To[int32](podTimeout),
		AdmissionReviewVersions: []string{"v1"},
		ReinvocationPolicy:      ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy),
		MatchConditions:         podConditions(state.Filter),
	}}
}

// ValidatingPods is the webhook that enforces: it decides on pods as they are when every mutating webhook is through, and
// on what updates change in them. Denials are logged, but not on dry run.
func ValidatingPods(s Settings, state State) []admissionregistrationv1.ValidatingWebhook {
	return []admissionregistrationv1.ValidatingWebhook{{
		Name:         ValidatePods,
		ClientConfig: s.client(s.ValidatePodsPath, state.CABundle),
		Rules: []admissionregistrationv1.RuleWithOperations{
			podRule("pods", admissionregistrationv1.Create, admissionregistrationv1.Update),
			podRule("pods/ephemeralcontainers", admissionregistrationv1.Update),
			podRule("pods/resize", admissionregistrationv1.Update),
		},
		FailurePolicy:           ptr.To(admissionregistrationv1.Fail),
		MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
		NamespaceSelector:       s.namespaceSelector(),
		ObjectSelector:          &metav1.LabelSelector{},
		SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNoneOnDryRun),
		TimeoutSeconds:          ptr.To[int32](podTimeout),
		AdmissionReviewVersions: []string{"v1"},
		MatchConditions:         append(podConditions(state.Filter), s.notOurStep()...),
	}}
}

// ValidatingWorkloads is the webhook for workloads, or none where there are no rules or nothing is governed. It stands in
// nobody's way: whatever it cannot answer within a second passes, and pods are decided on by themselves.
func ValidatingWorkloads(s Settings, state State) []admissionregistrationv1.ValidatingWebhook {
	if len(state.WorkloadRules) == 0 || !state.Filter.Governs() {
		return nil
	}
	return []admissionregistrationv1.ValidatingWebhook{{
		Name:                    ValidateWorkloads,
		ClientConfig:            s.client(s.ValidateWorkloadsPath, state.CABundle),
		Rules:                   state.WorkloadRules,
		FailurePolicy:           ptr.To(admissionregistrationv1.Ignore),
		MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
		NamespaceSelector:       s.namespaceSelector(),
		ObjectSelector:          &metav1.LabelSelector{},
		SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
		TimeoutSeconds:          ptr.To[int32](workloadTimeout),
		AdmissionReviewVersions: []string{"v1"},
		MatchConditions:         workloads.MatchConditions(),
	}}
}

func (s Settings) client(path string, caBundle []byte) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{
		Service: &admissionregistrationv1.ServiceReference{
			Namespace: s.ServiceNamespace, Name: s.ServiceName, Path: ptr.To(path), Port: ptr.To[int32](servicePort),
		},
		CABundle: caBundle,
	}
}

func (s Settings) namespaceSelector() *metav1.LabelSelector {
	return namespacesNamed(metav1.LabelSelectorOpNotIn, s.exempt())
}

// exempt are the names of the namespaces that are never sent.
func (s Settings) exempt() []string {
	exempt := []string{kubeSystem}
	for _, name := range s.ExemptNamespaces {
		if name != "" && !slices.Contains(exempt, name) {
			exempt = append(exempt, name)
		}
	}
	return exempt
}

func namespacesNamed(operator metav1.LabelSelectorOperator, names []string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: corev1.LabelMetadataName, Operator: operator, Values: names,
	}}}
}

func podRule(resource string, operations ...admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}, Scope: ptr.To(admissionregistrationv1.NamespacedScope),
		},
	}
}

func podConditions(f prefilter.Filter) []admissionregistrationv1.MatchCondition {
	return []admissionregistrationv1.MatchCondition{{
		// Kubelets report what runs already, as mirror pods of static ones: no denial would stop it.
		Name:       "not-by-a-node",
		Expression: fmt.Sprintf("!has(request.userInfo.groups) || !('%s' in request.userInfo.groups)", nodesGroup),
	}, {
		Name:       FilterCondition,
		Expression: f.Expression(),
	}}
}

// notOurStep keeps the operator from asking itself, once for each pod that it lets go: what it changes beside containers
// and volumes, its scheduling gate above all, is its own to change. Where another webhook changes an image on the way, the
// update is sent.
func (s Settings) notOurStep() []admissionregistrationv1.MatchCondition {
	if s.Operator == "" {
		return nil
	}
	changed := make([]string, 0, 4)
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers", "volumes"} {
		changed = append(changed, fmt.Sprintf("object.spec.?%[1]s.orValue([]) != oldObject.spec.?%[1]s.orValue([])", list))
	}
	return []admissionregistrationv1.MatchCondition{{
		Name: "not-a-step-of-the-operator",
		Expression: fmt.Sprintf("request.operation != 'UPDATE' || !has(request.userInfo.username) || request.userInfo.username != '%s' || has(request.subResource) || %s",
			s.Operator, strings.Join(changed, " || ")),
	}}
}

// FilterCondition is the name of the match condition that holds the filter's expression.
const FilterCondition = "may-name-what-is-governed"

// MutatingApply is the configuration, for server-side apply.
func MutatingApply(name string, webhooks []admissionregistrationv1.MutatingWebhook) (*applyadmissionv1.MutatingWebhookConfigurationApplyConfiguration, error) {
	apply := applyadmissionv1.MutatingWebhookConfiguration(name)
	return apply, convert(webhooks, &apply.Webhooks)
}

// ValidatingApply is the configuration, for server-side apply.
func ValidatingApply(name string, webhooks []admissionregistrationv1.ValidatingWebhook) (*applyadmissionv1.ValidatingWebhookConfigurationApplyConfiguration, error) {
	apply := applyadmissionv1.ValidatingWebhookConfiguration(name)
	return apply, convert(webhooks, &apply.Webhooks)
}

func convert(webhooks, apply any) error {
	content, err := json.Marshal(webhooks)
	if err != nil {
		return fmt.Errorf("encoding webhooks: %w", err)
	}
	if err := json.Unmarshal(content, apply); err != nil {
		return fmt.Errorf("encoding webhooks for apply: %w", err)
	}
	return nil
}

// SameMutating says whether a configuration holds the webhooks as they are wanted, and no other of ours. Those of others
// that somebody added are left alone.
func SameMutating(live, want []admissionregistrationv1.MutatingWebhook) bool {
	return equality.Semantic.DeepEqual(OursMutating(live), want) || len(want) == 0 && len(OursMutating(live)) == 0
}

// SameValidating is SameMutating for validating webhooks, in whatever order.
func SameValidating(live, want []admissionregistrationv1.ValidatingWebhook) bool {
	byName := func(a, b admissionregistrationv1.ValidatingWebhook) int { return strings.Compare(a.Name, b.Name) }
	ours := slices.SortedFunc(slices.Values(OursValidating(live)), byName)
	return equality.Semantic.DeepEqual(ours, slices.SortedFunc(slices.Values(want), byName)) || len(want) == 0 && len(ours) == 0
}

// OursMutating lists those of a configuration's webhooks that are the operator's.
func OursMutating(live []admissionregistrationv1.MutatingWebhook) []admissionregistrationv1.MutatingWebhook {
	return slices.DeleteFunc(slices.Clone(live), func(w admissionregistrationv1.MutatingWebhook) bool { return w.Name != MutatePods })
}

// OursValidating lists those of a configuration's webhooks that are the operator's.
func OursValidating(live []admissionregistrationv1.ValidatingWebhook) []admissionregistrationv1.ValidatingWebhook {
	return slices.DeleteFunc(slices.Clone(live), func(w admissionregistrationv1.ValidatingWebhook) bool {
		return !slices.Contains([]string{ValidatePods, ValidateWorkloads, DenyExec, AuditExec}, w.Name)
	})
}

// FilterExpression is the filter's expression among match conditions; empty where there is none.
func FilterExpression(conditions []admissionregistrationv1.MatchCondition) string {
	for _, c := range conditions {
		if c.Name == FilterCondition {
			return c.Expression
		}
	}
	return ""
}
