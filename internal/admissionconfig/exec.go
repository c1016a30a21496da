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

	// MaxExecNamespaces is how many namespaces a webhook for exec names: as many as Kubernetes is made for in a cluster
	// (https://github.com/kubernetes/community/blob/main/sig-scalability/configs-and-limits/thresholds.md). The names of both
	// webhooks then take 1.3 MB at most, of the 1.5 MiB that etcd takes in one object; and API servers, which compare the names
	// with the namespace of each write, some 40 microseconds for it.
	MaxExecNamespaces = 10_000

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
	// Deny are the namespaces in which a licence denies it, sorted, MaxExecNamespaces at most. Nobody gets in there while the
	// operator is away.
	Deny []string
	// Audit are further ones, in which a licence has it recorded. Nobody is kept out there.
	Audit Namespaces
	// Beyond is how many namespaces in which a licence denies it are too many for Deny, and so are among Audit: it is denied
	// there too, but only while the operator answers. To name none, and have all sent, would keep people out of namespaces
	// that no licence concerns.
	Beyond int
}

// NewExecScope goes through the policies of the licences that namespaces hold grants of: each namespace with the strictest
// of them, at most once.
func NewExecScope(policies iter.Seq2[string, v1alpha1.ExecPolicy]) ExecScope {
	var s ExecScope
	var audit []string
	for namespace, policy := range policies {
		switch policy {
		case v1alpha1.ExecAllow:
		case v1alpha1.ExecDeny:
			s.Deny = append(s.Deny, namespace)
		default:
			audit = append(audit, namespace)
		}
	}
	slices.Sort(s.Deny)
	if s.Beyond = max(0, len(s.Deny)-MaxExecNamespaces); s.Beyond > 0 {
		audit = append(audit, s.Deny[MaxExecNamespaces:]...)
		s.Deny = s.Deny[:MaxExecNamespaces:MaxExecNamespaces]
	}
	if len(audit) > MaxExecNamespaces {
		s.Audit.All = true
		return s
	}
	slices.Sort(audit)
	s.Audit.Names = audit
	return s
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
	if len(deny) > 0 {
		webhooks = append(webhooks, s.execWebhook(DenyExec, s.DenyExecPath, caBundle, admissionregistrationv1.Fail, denyExecTimeout, namespacesNamed(metav1.LabelSelectorOpIn, deny)))
	}
	if audit := (Namespaces{All: scope.Audit.All, Names: s.exempting(scope.Audit.Names)}); !audit.none() {
		webhooks = append(webhooks, s.execWebhook(AuditExec, s.AuditExecPath, caBundle, admissionregistrationv1.Ignore, auditExecTimeout, s.namespacesSelector(audit, deny)))
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
func (s Settings) exempting(names []string) []string {
	exempt := s.exempt()
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(exempt, name) })
}

// namespacesSelector selects the namespaces by the label that nobody but the API server sets, and leaves out others.
func (s Settings) namespacesSelector(n Namespaces, others []string) *metav1.LabelSelector {
	if !n.All {
		return namespacesNamed(metav1.LabelSelectorOpIn, n.Names)
	}
	return namespacesNamed(metav1.LabelSelectorOpNotIn, append(s.exempt(), others...))
}
