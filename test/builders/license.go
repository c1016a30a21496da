// Package builders makes valid objects for tests in a line each. Every builder starts from an object that the API
// server accepts, so that a test names only what it is about; Obj returns it.
package builders

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// LicenseBuilder builds a ModelLicense.
type LicenseBuilder struct{ obj v1alpha1.ModelLicense }

// License starts a licence of model chat-7b 2.1 by acme.example for Inference and Internal use in every namespace. It
// covers no image yet.
func License(name string) *LicenseBuilder {
	return &LicenseBuilder{v1alpha1.ModelLicense{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ModelLicense"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ModelLicenseSpec{
			Licensor: "acme.example",
			Model:    v1alpha1.ModelIdentity{Name: "chat-7b", Version: "2.1"},
			Terms: v1alpha1.LicenseTerms{
				Actions:  []v1alpha1.Action{v1alpha1.ActionInference},
				Purposes: []v1alpha1.Purpose{v1alpha1.PurposeInternal},
			},
			AllowedNamespaces: v1alpha1.AllowedNamespaces{Selector: &metav1.LabelSelector{}},
		},
	}}
}

// Repository covers a repository, or a pattern of repositories, opened by the licence's only key.
func (b *LicenseBuilder) Repository(repository string) *LicenseBuilder {
	return b.RepositoryWithKey(repository, "")
}

// RepositoryWithKey covers a repository that the named key opens.
func (b *LicenseBuilder) RepositoryWithKey(repository, keyName string) *LicenseBuilder {
	b.obj.Spec.Images = append(b.obj.Spec.Images, v1alpha1.LicensedImage{Repository: repository, KeyName: keyName})
	return b
}

// Mirrors adds repositories that hold the image which was covered last.
func (b *LicenseBuilder) Mirrors(repositories ...string) *LicenseBuilder {
	last := &b.obj.Spec.Images[len(b.obj.Spec.Images)-1]
	last.Mirrors = append(last.Mirrors, repositories...)
	return b
}

// Digests restricts the image that was covered last to these digests.
func (b *LicenseBuilder) Digests(digests ...string) *LicenseBuilder {
	last := &b.obj.Spec.Images[len(b.obj.Spec.Images)-1]
	last.Digests = append(last.Digests, digests...)
	return b
}

// PinDigests makes pods name the licence's images by digest.
func (b *LicenseBuilder) PinDigests() *LicenseBuilder {
	b.obj.Spec.PinDigests = ptr.To(true)
	return b
}

// Resolved adds to the status what a tag stands for. The API server takes it through the status subresource alone.
func (b *LicenseBuilder) Resolved(repository, tag, digest string, platforms ...string) *LicenseBuilder {
	b.obj.Status.Images = append(b.obj.Status.Images, v1alpha1.ResolvedImage{
		Repository: repository, Tag: tag, Digest: digest, Platforms: platforms,
	})
	return b
}

// Key adds a key, held in the entry "key" of the Secret LICENCE-NAME.
func (b *LicenseBuilder) Key(name string) *LicenseBuilder {
	return b.KeySecret(name, b.obj.Name+"-"+name, v1alpha1.DefaultSecretKey)
}

// KeySecret adds a key, held in an entry of a Secret.
func (b *LicenseBuilder) KeySecret(name, secret, entry string) *LicenseBuilder {
	b.obj.Spec.Keys = append(b.obj.Spec.Keys, v1alpha1.ModelKey{
		Name: name, SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: entry},
	})
	return b
}

// Licensor sets who licenses the model.
func (b *LicenseBuilder) Licensor(name string) *LicenseBuilder {
	b.obj.Spec.Licensor = name
	return b
}

// Model sets the model's name and version.
func (b *LicenseBuilder) Model(name, version string) *LicenseBuilder {
	b.obj.Spec.Model = v1alpha1.ModelIdentity{Name: name, Version: version}
	return b
}

// Namespaces allows the namespaces of these names and no others.
func (b *LicenseBuilder) Namespaces(names ...string) *LicenseBuilder {
	b.obj.Spec.AllowedNamespaces = v1alpha1.AllowedNamespaces{Names: names}
	return b
}

// NamespaceSelector allows the namespaces that have these labels.
func (b *LicenseBuilder) NamespaceSelector(labels map[string]string) *LicenseBuilder {
	b.obj.Spec.AllowedNamespaces = v1alpha1.AllowedNamespaces{Selector: &metav1.LabelSelector{MatchLabels: labels}}
	return b
}

// Actions sets the licensed actions.
func (b *LicenseBuilder) Actions(actions ...v1alpha1.Action) *LicenseBuilder {
	b.obj.Spec.Terms.Actions = actions
	return b
}

// Purposes sets the licensed purposes.
func (b *LicenseBuilder) Purposes(purposes ...v1alpha1.Purpose) *LicenseBuilder {
	b.obj.Spec.Terms.Purposes = purposes
	return b
}

// NotBefore sets the moment from which the licence holds.
func (b *LicenseBuilder) NotBefore(t time.Time) *LicenseBuilder {
	b.obj.Spec.Terms.NotBefore = &metav1.Time{Time: t}
	return b
}

// NotAfter sets the moment from which the licence no longer holds.
func (b *LicenseBuilder) NotAfter(t time.Time) *LicenseBuilder {
	b.obj.Spec.Terms.NotAfter = &metav1.Time{Time: t}
	return b
}

// Grace sets for how long after NotAfter running pods go on.
func (b *LicenseBuilder) Grace(d time.Duration) *LicenseBuilder {
	b.obj.Spec.Terms.GracePeriod = &metav1.Duration{Duration: d}
	return b
}

// GraceAdmits sets which new pods are admitted in the grace period.
func (b *LicenseBuilder) GraceAdmits(which v1alpha1.GraceAdmission) *LicenseBuilder {
	b.obj.Spec.Terms.GraceAdmits = which
	return b
}

// Limits bounds what pods use under the licence: pairs of a resource and a quantity, as in Limits("pods", "4", "nodes", "2").
func (b *LicenseBuilder) Limits(pairs ...string) *LicenseBuilder {
	b.obj.Spec.Terms.Limits = resources(pairs)
	return b
}

// Overage sets what happens to a pod for which there is no seat.
func (b *LicenseBuilder) Overage(policy v1alpha1.OveragePolicy) *LicenseBuilder {
	b.obj.Spec.Terms.Overage = policy
	return b
}

// Surge allows pods of one owner beyond the limits for a time.
func (b *LicenseBuilder) Surge(pods int32, period time.Duration) *LicenseBuilder {
	b.obj.Spec.Terms.Surge = &v1alpha1.SurgeAllowance{Pods: pods, Period: &metav1.Duration{Duration: period}}
	return b
}

// NodeSelector asks for a label of nodes.
func (b *LicenseBuilder) NodeSelector(key, value string) *LicenseBuilder {
	if b.obj.Spec.Terms.NodeSelector == nil {
		b.obj.Spec.Terms.NodeSelector = map[string]v1alpha1.NodeLabelValue{}
	}
	b.obj.Spec.Terms.NodeSelector[key] = v1alpha1.NodeLabelValue(value)
	return b
}

// OnRevoke sets what happens to a running pod that loses its entitlement.
func (b *LicenseBuilder) OnRevoke(policy v1alpha1.RevocationPolicy) *LicenseBuilder {
	b.obj.Spec.Terms.OnRevoke = policy
	return b
}

// Exec sets what happens to interactive access to pods that hold a key.
func (b *LicenseBuilder) Exec(policy v1alpha1.ExecPolicy) *LicenseBuilder {
	b.obj.Spec.Terms.Exec = policy
	return b
}

// Lease sets how long a node that is cut off may keep a key.
func (b *LicenseBuilder) Lease(d time.Duration) *LicenseBuilder {
	b.obj.Spec.Terms.LeaseDuration = &metav1.Duration{Duration: d}
	return b
}

// Suspended stops the licence.
func (b *LicenseBuilder) Suspended() *LicenseBuilder {
	b.obj.Spec.Suspended = ptr.To(true)
	return b
}

// Enforcement sets how admission deals with pods that are not entitled.
func (b *LicenseBuilder) Enforcement(mode v1alpha1.EnforcementMode) *LicenseBuilder {
	b.obj.Spec.Enforcement = mode
	return b
}

// UID sets the UID, which the API server sets where there is one.
func (b *LicenseBuilder) UID(uid string) *LicenseBuilder {
	b.obj.UID = types.UID(uid)
	return b
}

// Generation sets the generation, which the API server sets where there is one.
func (b *LicenseBuilder) Generation(n int64) *LicenseBuilder {
	b.obj.Generation = n
	return b
}

// Obj returns the licence; the builder may go on building another from it.
func (b *LicenseBuilder) Obj() *v1alpha1.ModelLicense { return b.obj.DeepCopy() }
