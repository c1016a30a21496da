// Package chart tests the packaging: what charts/modelrights renders, what its schema refuses, and that config/ is the same.
package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	root      = "../.."
	chartPath = root + "/charts/modelrights"

	operatorNamespace = "modelrights-system"
	nodeNamespace     = "modelrights-node"

	// newest is the Kubernetes that config/ is rendered for, oldest the oldest that is supported.
	newest = "1.37.0"
	oldest = "1.32.0"
)

// tool finds a binary that the Makefile builds. The environment names another.
func tool(t *testing.T, variable, name string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(root, "_output", "bin", name)
	}
	found, err := exec.LookPath(path)
	if err != nil {
		t.Fatalf("%s is missing: build it with make, or name one in the environment variable %s: %v", path, variable, err)
	}
	return found
}

// run returns what a command prints, or an error with what it complains of.
func run(command string, args ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd := exec.Command(command, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, out.String(), complaint.String())
	}
	return out.Bytes(), nil
}

// template renders the chart with the given `helm template` arguments.
func template(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	all := append([]string{"template", "modelrights", chartPath, "--namespace", operatorNamespace, "--kube-version", newest}, args...)
	return run(tool(t, "HELM", "helm"), all...)
}

// render is template for what must succeed, by identity of the objects.
func render(t *testing.T, args ...string) map[string]*unstructured.Unstructured {
	t.Helper()
	out, err := template(t, args...)
	if err != nil {
		t.Fatalf("render the chart: %v", err)
	}
	return objects(t, out)
}

// objects parses a stream of YAML documents. Two of the same identity are an error: the later would overwrite the other.
func objects(t *testing.T, stream []byte) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		object := map[string]any{}
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("parse what was rendered: %v", err)
		}
		if len(object) == 0 {
			continue
		}
		one := &unstructured.Unstructured{Object: object}
		if _, twice := found[identity(one)]; twice {
			t.Fatalf("%s was rendered twice", identity(one))
		}
		found[identity(one)] = one
	}
}

func identity(object *unstructured.Unstructured) string {
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}

// as converts one of the rendered objects into its type.
func as[T any](t *testing.T, all map[string]*unstructured.Unstructured, name string) *T {
	t.Helper()
	object, ok := all[name]
	if !ok {
		t.Fatalf("%s was not rendered", name)
	}
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true); err != nil {
		t.Fatalf("%s is not what its kind says: %v", name, err)
	}
	return typed
}
