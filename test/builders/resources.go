package builders

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resources makes a list of pairs of a resource and a quantity. It panics where a quantity cannot be parsed.
func resources(pairs []string) corev1.ResourceList {
	if len(pairs)%2 != 0 {
		panic(fmt.Sprintf("resources without a quantity: %q", pairs))
	}
	list := make(corev1.ResourceList, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}
