package builders

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// GrantBuilder builds a ModelGrant.
type GrantBuilder struct{ obj v1alpha1.ModelGrant }

// Grant starts a grant of a licence for Inference and Internal use. It names no subject yet.
func Grant(namespace, name, licenseName string) *GrantBuilder {
	return &GrantBuilder{v1alpha1.ModelGrant{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ModelGrant"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ModelGrantSpec{
			LicenseName: licenseName,
			Action:      v1alpha1.ActionInference,
			Purpose:     v1alpha1.PurposeInternal,
		},
	}}
}

// ServiceAccount adds service accounts as subjects.
func (b *GrantBuilder) ServiceAccount(names ...string) *GrantBuilder {
	for _, name := range names {
		b.obj.Spec.Subjects = append(b.obj.Spec.Subjects, v1alpha1.GrantSubject{Kind: v1alpha1.SubjectServiceAccount, Name: name})
	}
	return b
}

// PodSelector narrows the grant to pods with these labels.
func (b *GrantBuilder) PodSelector(labels map[string]string) *GrantBuilder {
	b.obj.Spec.PodSelector = &metav1.LabelSelector{MatchLabels: labels}
	return b
}

// Action sets the action.
func (b *GrantBuilder) Action(action v1alpha1.Action) *GrantBuilder {
	b.obj.Spec.Action = action
	return b
}

// Purpose sets the purpose.
func (b *GrantBuilder) Purpose(purpose v1alpha1.Purpose) *GrantBuilder {
	b.obj.Spec.Purpose = purpose
	return b
}

// Limits bounds what pods use under the grant: pairs of a resource and a quantity, as in Limits("pods", "2").
func (b *GrantBuilder) Limits(pairs ...string) *GrantBuilder {
	b.obj.Spec.Limits = resources(pairs)
	return b
}

// NotBefore sets the moment from which the grant counts.
func (b *GrantBuilder) NotBefore(t time.Time) *GrantBuilder {
	b.obj.Spec.NotBefore = &metav1.Time{Time: t}
	return b
}

// NotAfter sets the moment from which the grant no longer counts.
func (b *GrantBuilder) NotAfter(t time.Time) *GrantBuilder {
	b.obj.Spec.NotAfter = &metav1.Time{Time: t}
	return b
}

// Grace sets for how long after NotAfter running pods go on.
func (b *GrantBuilder) Grace(d time.Duration) *GrantBuilder {
	b.obj.Spec.GracePeriod = &metav1.Duration{Duration: d}
	return b
}

// UID sets the UID, which the API server sets where there is one.
func (b *GrantBuilder) UID(uid string) *GrantBuilder {
	b.obj.UID = types.UID(uid)
	return b
}

// Obj returns the grant; the builder may go on building another from it.
func (b *GrantBuilder) Obj() *v1alpha1.ModelGrant { return b.obj.DeepCopy() }
