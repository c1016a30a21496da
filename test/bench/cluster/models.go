package cluster

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

const (
	// OperatorNamespace is where the operator is installed.
	OperatorNamespace = "modelrights-system"
	// NodeNamespace is where its node driver is.
	NodeNamespace = "modelrights-node"

	// LicensesAtFirst are created through the API server, with their grants. Pods use these, at every size.
	LicensesAtFirst = 10
	// GrantsPerLicense is how many grants each licence has, in as many namespaces where there are so many.
	GrantsPerLicense = 10
	// grantsPerNamespace is how many grants a namespace of tenants has.
	grantsPerNamespace = 100
	// licensors is how many parties license models; each has a path of its own on the registry. There are more of them
	// than the webhooks' condition has room for.
	licensors = 100

	// Registry is one at which nobody listens, on this machine: no registry is asked for anything.
	Registry = "localhost:1"
	// Governed is the pattern of the models on it.
	Governed = Registry + "/models/**"

	// ServiceAccount is the account that all grants name.
	ServiceAccount = "inference"
	keySecretKey   = "identity"
)

// LicenseName is that of the i-th licence.
func LicenseName(i int) string { return fmt.Sprintf("model-%05d", i) }

// LicensorName is the party that licenses the i-th.
func LicensorName(i int) string { return fmt.Sprintf("vendor-%02d", i%licensors) }

// TenantNamespace is the i-th namespace of tenants.
func TenantNamespace(i int) string { return fmt.Sprintf("tenant-%04d", i) }

// GrantName is that of the j-th grant of a licence.
func GrantName(license, j int) string { return fmt.Sprintf("%s-g%d", LicenseName(license), j) }

// ModelPath is the parent of the repositories of a licence. The licence names all of them by a pattern, so that there is no
// one repository of which a registry could be asked.
func ModelPath(i int) string { return Registry + "/models/" + LicensorName(i) + "/" + LicenseName(i) }

// Image is one that the i-th licence covers.
func Image(i int) string { return ModelPath(i) + "/weights:2.1" }

// namespaces is how many namespaces of tenants there are.
func namespaces(licenses int) int { return max(1, licenses*GrantsPerLicense/grantsPerNamespace) }

// GrantNamespace is where the j-th grant of a licence is, at the size at which the licence is added. The first grants of
// the first licences are for the pods that are measured, whose namespace has as many grants at every size.
func (s *Seeder) GrantNamespace(license, j, licenses int) string {
	if license < LicensesAtFirst && j == 0 {
		return s.Pods
	}
	n := namespaces(licenses)
	return TenantNamespace((license + j*max(1, n/GrantsPerLicense)) % n)
}

// license is the i-th: one repository, one key, in force, for every namespace.
func (s *Seeder) license(i int) *v1alpha1.ModelLicense {
	l := builders.License(LicenseName(i)).Licensor(LicensorName(i)+".example").Model(LicenseName(i), "2.1").
		Repository(ModelPath(i)+"/*").KeySecret("v1", LicenseName(i)+"-v1", keySecretKey).NotAfter(s.end).Obj()
	l.Spec.Terms.Limits = s.Limits.DeepCopy()
	return l
}

func (s *Seeder) grant(i, j, licenses int) *v1alpha1.ModelGrant {
	return builders.Grant(s.GrantNamespace(i, j, licenses), GrantName(i, j), LicenseName(i)).ServiceAccount(ServiceAccount).Obj()
}

func keySecret(i int, identity string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: LicenseName(i) + "-v1"},
		StringData: map[string]string{keySecretKey: identity},
	}
}

// inForce is until when licences hold that are made now.
func inForce() time.Time { return time.Now().Add(365 * 24 * time.Hour).Truncate(time.Second) }
