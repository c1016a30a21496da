package builders

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NamespaceBuilder builds a Namespace.
type NamespaceBuilder struct{ obj corev1.Namespace }

// Namespace starts a namespace.
func Namespace(name string) *NamespaceBuilder {
	return &NamespaceBuilder{corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}}
}

// Label sets a label.
func (b *NamespaceBuilder) Label(key, value string) *NamespaceBuilder {
	metav1.SetMetaDataLabel(&b.obj.ObjectMeta, key, value)
	return b
}

// Obj returns the namespace; the builder may go on building another from it.
func (b *NamespaceBuilder) Obj() *corev1.Namespace { return b.obj.DeepCopy() }
