package controllers

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// grantsShare is what the grants in the cache have in common. What a grant has a pointer to is kept as slices of one.
var grantsShare = struct {
	labels     sharedMaps[map[string]string, string, string]
	limits     sharedMaps[corev1.ResourceList, corev1.ResourceName, resource.Quantity]
	subjects   sharedSlices[v1alpha1.GrantSubject]
	conditions sharedSlices[metav1.Condition]
	selectors  sharedSlices[metav1.LabelSelector]
	times      sharedSlices[metav1.Time]
	durations  sharedSlices[metav1.Duration]
	seats      sharedSlices[v1alpha1.SeatStatus]
	usage      sharedSlices[v1alpha1.UsageStatus]
}{labels: newSharedMaps[map[string]string](), limits: newSharedMaps[corev1.ResourceList]()}

// TrimGrant is a cache transform that leaves of a grant what decisions and statuses need, since a large cluster has a
// hundred thousand of them. What grants have in common, which is nearly all that they say, they share in memory. A grant
// from the cache must be written back by its status alone.
func TrimGrant(object any) (any, error) {
	grant, ok := object.(*v1alpha1.ModelGrant)
	if !ok {
		return object, nil
	}
	grant.ManagedFields, grant.Annotations = nil, nil
	grant.Labels = grantsShare.labels.one(grant.Labels)
	for _, s := range []*string{&grant.Kind, &grant.APIVersion, &grant.Namespace, &grant.Spec.LicenseName} {
		*s = shared(*s)
	}
	spec, status := &grant.Spec, &grant.Status
	spec.Action, spec.Purpose = shared(spec.Action), shared(spec.Purpose)
	spec.Subjects = grantsShare.subjects.one(spec.Subjects)
	spec.PodSelector = sharedPart(&grantsShare.selectors, spec.PodSelector)
	spec.Limits = grantsShare.limits.one(spec.Limits)
	spec.NotBefore, spec.NotAfter = sharedPart(&grantsShare.times, spec.NotBefore), sharedPart(&grantsShare.times, spec.NotAfter)
	spec.GracePeriod = sharedPart(&grantsShare.durations, spec.GracePeriod)
	status.Conditions = grantsShare.conditions.one(status.Conditions)
	status.Expires = sharedPart(&grantsShare.times, status.Expires)
	status.Seats, status.Usage = sharedPart(&grantsShare.seats, status.Seats), sharedPart(&grantsShare.usage, status.Usage)
	return grant, nil
}

// sharedPart is the copy of what a pointer points to that all share.
func sharedPart[T any](among *sharedSlices[T], part *T) *T {
	if part == nil {
		return nil
	}
	return &among.one([]T{*part})[0]
}
