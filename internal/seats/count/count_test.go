package count

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(name string, pairs ...string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: list(pairs...)}}
}

func TestAmountOf(t *testing.T) {
	sidecar := container("sidecar", "cpu", "100m")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	tests := map[string]struct {
		pod  corev1.Pod
		want corev1.ResourceList
	}{
		"containers add up": {
			corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
				container("a", "nvidia.com/gpu", "1", "cpu", "500m"), container("b", "nvidia.com/gpu", "2"),
			}}},
			list("nvidia.com/gpu", "3", "cpu", "500m"),
		},
		"the greatest init container counts where it is more": {
			corev1.Pod{Spec: corev1.PodSpec{
				InitContainers: []corev1.Container{container("i", "memory", "8Gi", "cpu", "1")},
				Containers:     []corev1.Container{container("a", "memory", "2Gi", "cpu", "2")},
			}},
			list("memory", "8Gi", "cpu", "2"),
		},
		"sidecars and overhead add": {
			corev1.Pod{Spec: corev1.PodSpec{
				InitContainers: []corev1.Container{sidecar},
				Containers:     []corev1.Container{container("a", "cpu", "1")}, Overhead: list("cpu", "250m"),
			}},
			list("cpu", "1350m"),
		},
		"pod-level resources replace those of containers": {
			corev1.Pod{Spec: corev1.PodSpec{
				Resources:  &corev1.ResourceRequirements{Requests: list("cpu", "4")},
				Containers: []corev1.Container{container("a", "cpu", "1", "nvidia.com/gpu", "1")},
			}},
			list("cpu", "4", "nvidia.com/gpu", "1"),
		},
		"a resize that shrinks counts the old until it is done": {
			corev1.Pod{
				Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "cpu", "1")}},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
					Name: "a", AllocatedResources: list("cpu", "3"),
					Resources: &corev1.ResourceRequirements{Requests: list("cpu", "3")},
				}}},
			},
			list("cpu", "3"),
		},
		"a resize that grows counts the new at once": {
			corev1.Pod{
				Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "cpu", "3")}},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
					Name: "a", AllocatedResources: list("cpu", "1"),
					Resources: &corev1.ResourceRequirements{Requests: list("cpu", "1")},
				}}},
			},
			list("cpu", "3"),
		},
		"nothing counts for nothing": {
			corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "cpu", "0")}}}, list(),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := AmountOf(&test.pod); !equality.Semantic.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAmountOfKeepsWhatIsLimited(t *testing.T) {
	requests := list("z.example.com/last", "1")
	for i := range 30 {
		requests[corev1.ResourceName(fmt.Sprintf("example.com/d%02d", i))] = resource.MustParse("1")
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "a", Resources: corev1.ResourceRequirements{Requests: requests},
	}}}}
	got := AmountOf(pod, list("pods", "1"), list("z.example.com/last", "4"))
	if _, ok := got["z.example.com/last"]; !ok || len(got) != MaxResources {
		t.Errorf("got %v, want %d resources with z.example.com/last", got, MaxResources)
	}
}

func TestUncountable(t *testing.T) {
	limits := list("pods", "4", "nvidia.com/gpu", "8")
	spec := func(pairs ...string) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{container("a", pairs...)}}
	}
	inLimits := corev1.PodSpec{InitContainers: []corev1.Container{{
		Name: "i", Resources: corev1.ResourceRequirements{Limits: list("nvidia.com/gpu.shared", "1")},
	}}}
	claims := corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "gpus"}}}
	tests := map[string]struct {
		spec   corev1.PodSpec
		limits corev1.ResourceList
		want   string // in what; empty for countable
	}{
		"the device itself":            {spec("nvidia.com/gpu", "1"), limits, ""},
		"a slice":                      {spec("nvidia.com/mig-1g.5gb", "1"), limits, "nvidia.com/mig-1g.5gb"},
		"a slice that is listed":       {spec("nvidia.com/mig-1g.5gb", "1"), list("nvidia.com/gpu", "8", "nvidia.com/mig-1g.5gb", "2"), ""},
		"none of a slice":              {spec("nvidia.com/mig-1g.5gb", "0"), limits, ""},
		"a renamed device in limits":   {inLimits, limits, "nvidia.com/gpu.shared"},
		"a name below the vendor's":    {spec("gpu.nvidia.com/h100", "1"), limits, "gpu.nvidia.com/h100"},
		"another vendor's":             {spec("amd.com/gpu", "1"), limits, ""},
		"a name that ends alike":       {spec("notnvidia.com/gpu", "1"), limits, ""},
		"claims":                       {claims, limits, "resource claim gpus"},
		"claims where pods are limits": {claims, list("pods", "4"), ""},
		"no limits":                    {spec("nvidia.com/gpu", "1"), nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			what, bad := Uncountable(&test.spec, test.limits)
			if bad != (test.want != "") || !strings.Contains(what, test.want) {
				t.Errorf("got %q, %v, want %q", what, bad, test.want)
			}
		})
	}
}
