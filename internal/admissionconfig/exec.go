package admissionconfig

import (
	"iter"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// DenyExec is the webhook of the configuration Exec for namespaces in which a licence denies interactive access.
	DenyExec = "deny.exec.modelrights.dev"
	// AuditExec is the one for namespaces in which it is only recorded.
	AuditExec = "audit.exec.modelrights.dev"

	// MaxExecNamespaces is how many namespaces a webhook for exec names. Where there are more, all are sent that are not
	// exempt.
	MaxExecNamespaces = 1000

	// denyExecTimeout and auditExecTimeout are the webhooks' timeoutSeconds. Who is only recorded hardly waits.
	denyExecTimeout  = 3
	auditExecTimeout = 1
)

// Namespaces are the namespaces whose requests are sent to a webhook.
type Namespaces struct {
	// Names are sorted. Empty means none, unless All.
	Names []string
	// All means all that are not exempt, since they are too many to name.
	All bool
}

// none says whether nothing is sent.
func (n Namespaces) none() bool { return !n.All && len(n.Names) == 0 }

// ExecScope says where interactive access to pods that hold a key is decided on, and where recorded.
type ExecScope struct {
	// Deny are the namespaces in which a licence denies it. Nobody gets in there while the operator is away.
	Deny Namespaces
	// Audit are further ones, in which a licence has it recorded. Nobody is kept out there.
	Audit Namespaces
}

// NewExecScope goes through the policies of the licences that namespaces hold grants of: each namespace with the strictest
// of them, at most once. It stops as soon as all are sent everywhere.
func NewExecScope(policies iter.Seq2[string, v1alpha1.ExecPolicy]) ExecScope {
	var s ExecScope
	for namespace, policy := range policies {
		switch policy {
		case v1alpha1.ExecAllow:
		case v1alpha1.ExecDeny:
			s.Deny.add(namespace)
		default:
			s.Audit.add(namespace)
		}
		if s.Deny.All {
			break
		}
	}
	if s.Deny.All { // The other webhook would get the same requests once more.
		s.Audit = Namespaces{}
	}
	slices.Sort(s.Deny.Names)
	slices.Sort(s.Audit.Names)
	return s
}

func (n *Namespaces) add(namespace string) {
	switch {
	case n.All:
	case len(n.Names) == MaxExecNamespaces:
		n.All, n.Names = true, nil
	default:
		n.Names = append(n.Names, namespace)
	}
}

// StricterExec is the stricter of two policies. What is not set is Audit, as by default.
func StricterExec(a, b v1alpha1.ExecPolicy) v1alpha1.ExecPolicy {
	rank := map[v1alpha1.ExecPolicy]int{v1alpha1.ExecAllow: -1, v1alpha1.ExecDeny: 1}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// ValidatingExec are the webhooks for exec, attach and ephemeral containers, none where nothing is sent. Calls are those
// of everybody: kubelets make none.
func ValidatingExec(s Settings, scope ExecScope, caBundle []byte) []admissionregistrationv1.ValidatingWebhook {
	var webhooks []admissionregistrationv1.ValidatingWebhook
	deny := s.exempting(scope.Deny)
	if !deny.none() {
		webhooks = append(webhooks, s.execWebhook(DenyExec, s.DenyExecPath, caBundle, admissionregistrationv1.Fail, denyExecTimeout, s.namespacesSelector(deny, nil)))
	}
	if audit := s.exempting(scope.Audit); !audit.none() {
		webhooks = append(webhooks, s.execWebhook(AuditExec, s.AuditExecPath, caBundle, admissionregistrationv1.Ignore, auditExecTimeout, s.namespacesSelector(audit, deny.Names)))
	}
	return webhooks
}

func (s Settings) execWebhook(name, path string, caBundle []byte, failure admissionregistrationv1.FailurePolicyType, timeout int32, namespaces *metav1.LabelSelector) admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{
		Name:         name,
		ClientConfig: s.client(path, caBundle),
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Connect},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/exec", "pods/attach"},
				Scope: ptr.To(admissionregistrationv1.NamespacedScope),
			},
		}, podRule("pods/ephemeralcontainers", admissionregistrationv1.Update)},
		FailurePolicy:           ptr.To(failure),
		MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
		NamespaceSelector:       namespaces,
		ObjectSelector:          &metav1.LabelSelector{},
		SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNoneOnDryRun),
		TimeoutSeconds:          ptr.To(timeout),
		AdmissionReviewVersions: []string{"v1"},
	}
}

// exempting leaves out the exempt ones of the names.
func (s Settings) exempting(n Namespaces) Namespaces {
	exempt := s.exempt()
	return Namespaces{All: n.All, Names: slices.DeleteFunc(slices.Clone(n.Names), func(name string) bool { return slices.Contains(exempt, name) })}
}

// namespacesSelector selects the namespaces by the label that nobody but the API server sets, and leaves out others.
func (s Settings) namespacesSelector(n Namespaces, others []string) *metav1.LabelSelector {
	if !n.All {
		return namespacesNamed(metav1.LabelSelectorOpIn, n.Names)
	}
	return namespacesNamed(metav1.LabelSelectorOpNotIn, append(s.exempt(), others...))
}
