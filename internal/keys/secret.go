package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// SecretSource takes keys from Secrets of one namespace, the operator's. It needs the RBAC verb get on them, and reads
// each by name when it is asked for.
type SecretSource struct {
	reader    client.Reader
	namespace string
}

var _ Source = (*SecretSource)(nil)

// NewSecretSource returns a source that reads Secrets of a namespace. The reader must ask the API server each time: a
// cache would keep every Secret of the namespace in memory, and its objects are wiped here after use.
func NewSecretSource(live client.Reader, namespace string) *SecretSource {
	return &SecretSource{reader: live, namespace: namespace}
}

// Fetch returns the key of that name, from the Secret that the licence names for it. See Source.
func (s *SecretSource) Fetch(ctx context.Context, license *v1alpha1.ModelLicense, keyName string) (Material, error) {
	i := slices.IndexFunc(license.Spec.Keys, func(k v1alpha1.ModelKey) bool { return k.Name == keyName })
	if i < 0 {
		return Material{}, noKey(license.Name)
	}
	ref := license.Spec.Keys[i].SecretRef
	entry := ref.Key
	if entry == "" {
		entry = v1alpha1.DefaultSecretKey
	}
	where := fmt.Sprintf("key %s of licence %s: Secret %s/%s", keyName, license.Name, s.namespace, ref.Name)

	var secret corev1.Secret
	err := s.reader.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: ref.Name}, &secret)
	if apierrors.IsNotFound(err) {
		return Material{}, s.refuse(v1alpha1.ReasonKeySecretMissing, where+" does not exist", ref.Name, entry)
	}
	if err != nil {
		return Material{}, Unavailable(where+" cannot be read", err)
	}
	defer wipe(&secret)

	text, ok := secret.Data[entry]
	if !ok {
		return Material{}, s.refuse(v1alpha1.ReasonKeySecretMissing, fmt.Sprintf("%s has no entry %s", where, entry), ref.Name, entry)
	}
	material, err := Parse(text)
	switch {
	case errors.Is(err, errEmpty):
		return Material{}, s.refuse(v1alpha1.ReasonKeyEmpty, fmt.Sprintf("%s: entry %s %v", where, entry, err), ref.Name, entry)
	case err != nil:
		return Material{}, s.refuse(v1alpha1.ReasonKeyInvalid, fmt.Sprintf("%s: entry %s %v", where, entry, err), ref.Name, entry)
	}
	return material, nil
}

func (s *SecretSource) refuse(reason v1alpha1.Reason, message, secret, entry string) *Error {
	return &Error{
		Reason:  reason,
		Message: message,
		Remedy: fmt.Sprintf("ask your platform team to put the age identity there: kubectl -n %s create secret generic %s --from-file=%s=KEYFILE",
			s.namespace, secret, entry),
	}
}

func wipe(secret *corev1.Secret) {
	for _, value := range secret.Data {
		clear(value)
	}
}
