package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func nodeWith(name string, images ...string) corev1.Node {
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, image := range images {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{Names: strings.Split(image, " "), SizeBytes: 1})
	}
	return node
}

func TestDistribute(t *testing.T) {
	one, two, platform := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64), "sha256:"+strings.Repeat("3", 64)
	nodes := []corev1.Node{
		nodeWith("c", chat+":v1 "+chat+"@"+one, "docker.io/library/busybox:1"),
		nodeWith("a", "registry.example.com/tenant/copy@"+two),
		nodeWith("b", "registry.example.com/tenant/copy@"+platform, "mirror.example.com/models/chat:v1"),
		nodeWith("d", "docker.io/library/busybox:1", "<none>@<none>", "sha256:abc", "registry.example.com/models/chat-other:v1"),
		nodeWith("e"),
	}
	tests := map[string]struct {
		license *v1alpha1.ModelLicense
		want    []string
	}{
		"by repository":                       {licenseOf(v1alpha1.LicensedImage{Repository: chat}), []string{"c"}},
		"by pattern":                          {licenseOf(v1alpha1.LicensedImage{Repository: "registry.example.com/**"}), []string{"a", "b", "c", "d"}},
		"by mirror":                           {licenseOf(v1alpha1.LicensedImage{Repository: chat, Mirrors: []string{"mirror.example.com/**"}}), []string{"b", "c"}},
		"by a listed digest":                  {licenseOf(v1alpha1.LicensedImage{Repository: "registry.example.com/none", Digests: []string{two}}), []string{"a"}},
		"nowhere":                             {licenseOf(v1alpha1.LicensedImage{Repository: "registry.example.com/none"}), nil},
		"what cannot be parsed lies nowhere":  {licenseOf(v1alpha1.LicensedImage{Repository: "nonsense"}), nil},
		"Docker Hub, in short":                {licenseOf(v1alpha1.LicensedImage{Repository: "docker.io/busybox"}), []string{"c", "d"}},
		"by a resolved digest and a platform": {licenseOf(v1alpha1.LicensedImage{Repository: "registry.example.com/none"}), []string{"a", "b"}},
	}
	resolved := tests["by a resolved digest and a platform"].license
	resolved.Status.Images = []v1alpha1.ResolvedImage{{Repository: "registry.example.com/none", Tag: "v1", Digest: two, Platforms: []string{platform}}}
	var names []string
	var licenses []v1alpha1.ModelLicense
	for name, tc := range tests {
		names, licenses = append(names, name), append(licenses, *tc.license)
	}
	for i, got := range distribute(licenses, nodes) {
		if want := tests[names[i]].want; !slices.Equal(got.NodeNames, want) || int(got.Nodes) != len(want) {
			t.Errorf("%s: %+v, want %v", names[i], got, want)
		}
	}
}

func TestDistributeNamesTheFirstNodes(t *testing.T) {
	var nodes []corev1.Node
	for i := range maxNodeNames + 50 {
		nodes = append(nodes, nodeWith(fmt.Sprintf("node-%03d", 500-i), chat+":v1"))
	}
	got := distribute([]v1alpha1.ModelLicense{*licenseOf(v1alpha1.LicensedImage{Repository: chat})}, nodes)[0]
	if got.Nodes != maxNodeNames+50 || len(got.NodeNames) != maxNodeNames || got.NodeNames[0] != "node-351" || !slices.IsSorted(got.NodeNames) {
		t.Errorf("%d nodes, %d names from %s", got.Nodes, len(got.NodeNames), got.NodeNames[0])
	}
}

func TestTrimNode(t *testing.T) {
	node := nodeWith("a", chat+":v1 "+chat+"@sha256:1")
	node.ResourceVersion, node.Labels, node.Status.Addresses = "7", map[string]string{"a": "b"}, []corev1.NodeAddress{{Address: "10.0.0.1"}}
	trimmed, err := TrimNode(node.DeepCopy())
	got, ok := trimmed.(*corev1.Node)
	if err != nil || !ok || got.Name != "a" || got.ResourceVersion != "7" || got.Labels["a"] != "b" || got.Status.Addresses != nil || !sameImageNames(got, &node) || got.Status.Images[0].SizeBytes != 0 {
		t.Errorf("%+v, %v", trimmed, err)
	}
	other := nodeWith("a", chat+":v2 "+chat+"@sha256:1")
	fewer := nodeWith("a", chat+":v1")
	none := nodeWith("a")
	for _, n := range []*corev1.Node{&other, &fewer, &none} {
		if sameImageNames(got, n) {
			t.Errorf("%v is the same as %v", n.Status.Images, got.Status.Images)
		}
	}
}

// BenchmarkDistribute: 10,000 licences and 5,000 nodes with 50 images each, of which there are 5,000.
func BenchmarkDistribute(b *testing.B) {
	var licenses []v1alpha1.ModelLicense
	for i := range 10_000 {
		licenses = append(licenses, *licenseOf(v1alpha1.LicensedImage{Repository: fmt.Sprintf("registry.example.com/models/m%d", i)}))
	}
	var nodes []corev1.Node
	for i := range 5_000 {
		var images []string
		for n := range 50 {
			m := (i*7 + n*101) % 5_000
			images = append(images, fmt.Sprintf("registry.example.com/models/m%d:v1 registry.example.com/models/m%d@sha256:%064d", m, m, m))
		}
		nodes = append(nodes, nodeWith(fmt.Sprint("node-", i), images...))
	}
	for b.Loop() {
		distribute(licenses, nodes)
	}
}
