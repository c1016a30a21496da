package controllers

import (
	"slices"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TrimGrant is a cache transform that leaves of a grant what decisions and statuses need, since a large cluster has a
// hundred thousand of them. What grants have in common, which is nearly all that they say, they share in memory. A grant
// from the cache must be written back by its status alone.
func TrimGrant(object any) (any, error) {
	grant, ok := object.(*v1alpha1.ModelGrant)
	if !ok {
		return object, nil
	}
	grant.ManagedFields, grant.Annotations = nil, nil
	for _, s := range []*string{&grant.Kind, &grant.APIVersion, &grant.Namespace, &grant.Spec.LicenseName} {
		*s = shared(*s)
	}
	grant.Spec.Action, grant.Spec.Purpose = shared(grant.Spec.Action), shared(grant.Spec.Purpose)
	grant.Spec.Subjects = slices.Clone(grant.Spec.Subjects)
	for i := range grant.Spec.Subjects {
		subject := &grant.Spec.Subjects[i]
		subject.Kind, subject.Name = shared(subject.Kind), shared(subject.Name)
	}
	grant.Status.Conditions = trimConditions(grant.Status.Conditions)
	return grant, nil
}

// trimConditions copies them without the room that decoding left, and shares their texts.
func trimConditions(conditions []metav1.Condition) []metav1.Condition {
	kept := slices.Clone(conditions)
	for i := range kept {
		c := &kept[i]
		c.Type, c.Status, c.Reason, c.Message = shared(c.Type), shared(c.Status), shared(c.Reason), shared(c.Message)
	}
	return slices.Clip(kept)
}

// shared is the one copy of a string that all who ask for it have while any of them is new.
func shared[S ~string](s S) S { return unique.Make(s).Value() }
