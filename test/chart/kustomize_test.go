package chart

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// keepAnnotation is what only helm has a use for.
const keepAnnotation = "helm.sh/resource-policy"

func kustomize(t *testing.T, directory string) map[string]*unstructured.Unstructured {
	t.Helper()
	out, err := run(tool(t, "KUBECTL", "kubectl"), "kustomize", filepath.Join(root, directory))
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v", directory, err)
	}
	return objects(t, out)
}

// TestConfigIsTheChart compares, object by object, what kustomize users get with what helm users get. The one difference is
// the operator's namespace, which helm makes with --create-namespace.
func TestConfigIsTheChart(t *testing.T) {
	for directory, version := range map[string]string{"config/default": newest, "config/kubernetes-1.34": oldest} {
		t.Run(directory, func(t *testing.T) {
			fromConfig := kustomize(t, directory)
			namespace := "Namespace /" + operatorNamespace
			if _, ok := fromConfig[namespace]; !ok {
				t.Errorf("%s has no %s", directory, namespace)
			}
			delete(fromConfig, namespace)

			fromChart := render(t, "--kube-version", version)
			for name, object := range fromChart {
				annotations := object.GetAnnotations()
				if _, kept := annotations[keepAnnotation]; kept != (object.GetKind() == "CustomResourceDefinition") {
					t.Errorf("%s: annotated with %s: %t", name, keepAnnotation, kept)
				}
				delete(annotations, keepAnnotation)
				object.SetAnnotations(annotations)
			}

			names := slices.Sorted(maps.Keys(fromChart))
			if diff := cmp.Diff(names, slices.Sorted(maps.Keys(fromConfig))); diff != "" {
				t.Fatalf("objects of the chart (-) and of %s (+) differ:\n%s", directory, diff)
			}
			for _, name := range names {
				if diff := cmp.Diff(fromChart[name].Object, fromConfig[name].Object); diff != "" {
					t.Errorf("%s of the chart (-) and of %s (+) differ:\n%s", name, directory, diff)
				}
			}
		})
	}
}

// TestCRDsAreCopied holds the chart's CustomResourceDefinitions to the generated ones, byte by byte.
func TestCRDsAreCopied(t *testing.T) {
	generated, copied := read(t, root+"/config/crd/bases"), read(t, chartPath+"/files/crds")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(generated)), slices.Sorted(maps.Keys(copied))); diff != "" {
		t.Fatalf("files generated (-) and in the chart (+) differ; run hack/render-config.sh:\n%s", diff)
	}
	for name, content := range generated {
		if !bytes.Equal(content, copied[name]) {
			t.Errorf("%s in the chart is not the generated one; run hack/render-config.sh", name)
		}
	}
	for name := range generated {
		if !slices.Contains(slices.Collect(maps.Keys(kustomizedCRDs(t))), name) {
			t.Errorf("config/crd/kustomization.yaml does not list %s", name)
		}
	}
}

func kustomizedCRDs(t *testing.T) map[string]bool {
	t.Helper()
	files := map[string]bool{}
	for _, object := range kustomize(t, "config/crd") {
		plural, _, _ := unstructured.NestedString(object.Object, "spec", "names", "plural")
		group, _, _ := unstructured.NestedString(object.Object, "spec", "group")
		files[group+"_"+plural+".yaml"] = true
	}
	return files
}

func read(t *testing.T, directory string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", directory, err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = content
	}
	return files
}
