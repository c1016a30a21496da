// Package count says what a pod counts for under a licence. It is pure.
package count

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// MaxResources is how many resources an amount has at most: what a ledger keeps of one pod, and as many as the limits of a
// licence and a grant can name together.
const MaxResources = 16

// AmountOf is what a pod counts for, as the scheduler counts it: the requests of its containers, init containers and
// sidecars, pod-level resources, overhead, and of a pod that is resized the most of what it has and what it asks for. Pods
// and nodes are not in it. Resources that the limits name come first where a pod requests more than MaxResources.
//
// Requests of a pod that the API server has not seen may lack what it would take over from its limits.
func AmountOf(pod *corev1.Pod, limits ...corev1.ResourceList) corev1.ResourceList {
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
	for name, q := range requests {
		if q.Sign() <= 0 {
			delete(requests, name)
		}
	}
	if len(requests) <= MaxResources {
		return requests
	}
	names := make([]corev1.ResourceName, 0, len(requests))
	for name := range requests {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b corev1.ResourceName) int {
		return cmp.Or(rank(a, limits)-rank(b, limits), cmp.Compare(a, b))
	})
	for _, name := range names[MaxResources:] {
		delete(requests, name)
	}
	return requests
}

func rank(name corev1.ResourceName, limits []corev1.ResourceList) int {
	for _, list := range limits {
		if _, limited := list[name]; limited {
			return 0
		}
	}
	return 1
}

// Uncountable reports what in a pod's spec the limits cannot count, in words. Where limits name a device, that is every
// resource claim, since nothing says which devices it will get, and every device of the same vendor under another name,
// such as a slice of a GPU: the limits must name it too.
func Uncountable(spec *corev1.PodSpec, limits corev1.ResourceList) (what string, bad bool) {
	vendors := map[string]corev1.ResourceName{}
	for name := range limits {
		if vendor, ok := vendorOf(name); ok {
			if first, known := vendors[vendor]; !known || name < first {
				vendors[vendor] = name
			}
		}
	}
	if len(vendors) == 0 {
		return "", false
	}
	if len(spec.ResourceClaims) > 0 {
		return "resource claim " + spec.ResourceClaims[0].Name, true
	}
	for _, list := range requested(spec) {
		for _, name := range sortedNames(list) {
			if _, limited := limits[name]; limited {
				continue
			}
			if q := list[name]; q.IsZero() {
				continue
			}
			vendor, ok := vendorOf(name)
			if !ok {
				continue
			}
			for limited, device := range vendors {
				if sameVendor(vendor, limited) {
					return string(name) + ", which is not among the limits as " + string(device) + " is", true
				}
			}
		}
	}
	return "", false
}

// requested are all lists of resources of a pod's spec.
func requested(spec *corev1.PodSpec) []corev1.ResourceList {
	var out []corev1.ResourceList
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			out = append(out, containers[i].Resources.Requests, containers[i].Resources.Limits)
		}
	}
	if spec.Resources != nil {
		out = append(out, spec.Resources.Requests, spec.Resources.Limits)
	}
	return append(out, spec.Overhead)
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// vendorOf is the domain of a device's name; false for resources that are no devices.
func vendorOf(name corev1.ResourceName) (string, bool) {
	vendor, _, device := strings.Cut(strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix), "/")
	return vendor, device && !strings.HasSuffix("."+vendor, ".kubernetes.io")
}

// sameVendor reports whether one domain is the other or within it, as gpu.example.com is within example.com.
func sameVendor(a, b string) bool {
	return a == b || strings.HasSuffix(a, "."+b) || strings.HasSuffix(b, "."+a)
}
