// Package view reads licences, grants and what is governed with a user's own rights, and knows what it could not see.
package view

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
)

// page is how many objects are read at once, as kubectl does.
const page = 500

// ErrNotInstalled says that the cluster has no licences and grants at all.
var ErrNotInstalled = errors.New("the cluster has no kind ModelLicense or ModelGrant: modelrights is not installed there")

// View is what a user can see of what decisions need.
type View struct {
	// Snapshot is what to decide by.
	Snapshot *entitlement.Snapshot
	// Info is what the installation tells its users; nil where it could not be read.
	Info *Info
	// Limits are what could not be seen, and who can change that.
	Limits []Limit

	governedKnown bool
	licenses      map[string]*v1alpha1.ModelLicense
	namespaces    map[string]*namespace
	// allLicenses says that licences could be listed; otherwise only those are known that grants name.
	allLicenses bool
}

// namespace is what could be seen of a namespace.
type namespace struct {
	labels     map[string]string
	labelsSeen bool
	grantsSeen bool
	// hidden are licences that grants of the namespace name, and that could not be read.
	hidden []string
}

// Request says what is needed.
type Request struct {
	// Namespaces are the namespaces of the pods that are asked about.
	Namespaces []string
	// DeclaredLabels are the labels of namespaces that manifests declare: they count where the namespace is yet to be made.
	DeclaredLabels map[string]map[string]string
	// GovernedRepositories, where it is not nil, are governed in place of those that the installation names.
	GovernedRepositories []string
}

// Read reads what the request needs. What the user may not see is among the limits; the error says that nothing can be
// said at all.
func Read(ctx context.Context, api client.Reader, r Request) (*View, error) {
	v := &View{licenses: map[string]*v1alpha1.ModelLicense{}, namespaces: map[string]*namespace{}}
	governed, err := v.readGoverned(ctx, api, r.GovernedRepositories)
	if err != nil {
		return nil, err
	}
	if v.Snapshot, err = entitlement.New(governed); err != nil {
		return nil, fmt.Errorf("governed repositories: %w", err)
	}
	if err := v.listLicenses(ctx, api); err != nil {
		return nil, err
	}
	changes := entitlement.Changes{Licenses: v.licenses, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for _, name := range r.Namespaces {
		if v.namespaces[name] != nil {
			continue
		}
		ns := &namespace{}
		v.namespaces[name] = ns
		if err := v.readLabels(ctx, api, name, ns, r.DeclaredLabels[name]); err != nil {
			return nil, err
		}
		grants, err := v.listGrants(ctx, api, name, ns)
		if err != nil {
			return nil, err
		}
		for i := range grants {
			changes.Grants[entitlement.GrantKey{Namespace: name, Name: grants[i].Name}] = &grants[i]
		}
		if err := v.getGranted(ctx, api, ns, grants); err != nil {
			return nil, err
		}
	}
	v.Snapshot = v.Snapshot.Apply(changes)
	return v, nil
}

// NamespaceLabels are the labels of a namespace, as far as they could be seen.
func (v *View) NamespaceLabels(name string) map[string]string {
	if ns := v.namespaces[name]; ns != nil {
		return ns.labels
	}
	return nil
}

// Exempt says whether the webhooks leave a namespace alone, by what the installation tells.
func (v *View) Exempt(name string) bool {
	return v.Info != nil && slices.Contains(v.Info.ExemptNamespaces, name)
}

func (v *View) readGoverned(ctx context.Context, api client.Reader, given []string) ([]string, error) {
	info, err := ReadInfo(ctx, api)
	switch {
	case err == nil:
		v.Info = info
	case given != nil:
		// Nothing else of it changes a decision.
	case apierrors.IsNotFound(err):
		v.Limits = append(v.Limits, Limit{
			Verb: "get", Resource: "configmaps", Namespace: InfoNamespace, Name: InfoName,
			Message: fmt.Sprintf("which repositories are governed without a licence is not known: ConfigMap %s/%s is missing", InfoNamespace, InfoName),
			Remedy:  "ask your platform team to upgrade modelrights, or name the repositories with --governed-repository",
		})
	case apierrors.IsForbidden(err):
		limit := forbidden(err, "get", "configmaps", InfoNamespace, InfoName)
		limit.Message = "which repositories are governed without a licence is not known: " + limit.Message
		limit.Remedy = "ask your platform team for it, or name the repositories with --governed-repository"
		v.Limits = append(v.Limits, limit)
	default:
		return nil, err
	}
	v.governedKnown = v.Info != nil || given != nil
	if given != nil || v.Info == nil {
		return given, nil
	}
	return v.Info.GovernedRepositories, nil
}

func (v *View) listLicenses(ctx context.Context, api client.Reader) error {
	list := v1alpha1.ModelLicenseList{}
	for {
		options := []client.ListOption{client.Limit(page), client.Continue(list.Continue)}
		list = v1alpha1.ModelLicenseList{}
		err := api.List(ctx, &list, options...)
		if apierrors.IsForbidden(err) {
			limit := forbidden(err, "list", "modellicenses.modelrights.dev", "", "")
			limit.Message = "only licences that grants name can be looked at: " + limit.Message
			v.Limits = append(v.Limits, limit)
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading licences: %w", missingKind(err))
		}
		for i := range list.Items {
			v.licenses[list.Items[i].Name] = &list.Items[i]
		}
		if list.Continue == "" {
			v.allLicenses = true
			return nil
		}
	}
}

func (v *View) readLabels(ctx context.Context, api client.Reader, name string, ns *namespace, declared map[string]string) error {
	var object corev1.Namespace
	err := api.Get(ctx, client.ObjectKey{Name: name}, &object)
	switch {
	case err == nil:
		ns.labels, ns.labelsSeen = object.Labels, true
		return nil
	case apierrors.IsNotFound(err):
		ns.labelsSeen = true
		ns.labels = withName(declared, name)
		return nil
	case apierrors.IsForbidden(err):
		ns.labels = withName(nil, name)
		v.Limits = append(v.Limits, forbidden(err, "get", "namespaces", name, name))
		return nil
	}
	return fmt.Errorf("reading namespace %s: %w", name, err)
}

// withName adds the label that the API server gives every namespace.
func withName(labels map[string]string, name string) map[string]string {
	named := map[string]string{}
	for key, value := range labels {
		named[key] = value
	}
	named[corev1.LabelMetadataName] = name
	return named
}

func (v *View) listGrants(ctx context.Context, api client.Reader, name string, ns *namespace) ([]v1alpha1.ModelGrant, error) {
	var all []v1alpha1.ModelGrant
	list := v1alpha1.ModelGrantList{}
	for {
		options := []client.ListOption{client.InNamespace(name), client.Limit(page), client.Continue(list.Continue)}
		list = v1alpha1.ModelGrantList{}
		err := api.List(ctx, &list, options...)
		if apierrors.IsForbidden(err) {
			v.Limits = append(v.Limits, forbidden(err, "list", "modelgrants.modelrights.dev", name, ""))
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading grants of namespace %s: %w", name, missingKind(err))
		}
		all = append(all, list.Items...)
		if list.Continue == "" {
			ns.grantsSeen = true
			return all, nil
		}
	}
}

// getGranted reads one by one the licences that grants name, where licences cannot be listed.
func (v *View) getGranted(ctx context.Context, api client.Reader, ns *namespace, grants []v1alpha1.ModelGrant) error {
	if v.allLicenses {
		return nil
	}
	for i := range grants {
		name := grants[i].Spec.LicenseName
		if v.licenses[name] != nil || slices.Contains(ns.hidden, name) {
			continue
		}
		var license v1alpha1.ModelLicense
		err := api.Get(ctx, client.ObjectKey{Name: name}, &license)
		switch {
		case err == nil:
			v.licenses[name] = &license
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err):
			ns.hidden = append(ns.hidden, name)
			limit := forbidden(err, "get", "modellicenses.modelrights.dev", "", name)
			if !slices.Contains(v.Limits, limit) {
				v.Limits = append(v.Limits, limit)
			}
		default:
			return fmt.Errorf("reading licence %s: %w", name, err)
		}
	}
	return nil
}

// missingKind tells a cluster without modelrights from one that cannot be reached.
func missingKind(err error) error {
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return ErrNotInstalled
	}
	return err
}

// selectsByLabel says whether a licence chooses namespaces by labels other than the one that is known of every namespace.
func selectsByLabel(l *v1alpha1.ModelLicense) bool {
	selector := l.Spec.AllowedNamespaces.Selector
	if selector == nil {
		return false
	}
	for key := range selector.MatchLabels {
		if key != corev1.LabelMetadataName {
			return true
		}
	}
	return slices.ContainsFunc(selector.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool {
		return e.Key != corev1.LabelMetadataName
	})
}
