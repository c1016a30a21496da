package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	nodeNamespace = "modelrights-node"
	operatorUser  = "system:serviceaccount:modelrights-system:modelrights-operator"
	nodeUser      = "system:serviceaccount:modelrights-node:modelrights-node"
)

// actingAs returns a client that acts as the user.
func actingAs(config *rest.Config, user string, groups ...string) client.Client {
	GinkgoHelper()
	impersonated := rest.CopyConfig(config)
	impersonated.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return clientOf(impersonated)
}

// clientOf returns a client that acts as whoever the configuration says.
func clientOf(config *rest.Config) client.Client {
	GinkgoHelper()
	c, err := client.New(config, client.Options{Scheme: testScheme})
	Expect(err).NotTo(HaveOccurred())
	return c
}

// configManifests reads what a directory of config/ lists.
func configManifests(directory string) []*unstructured.Unstructured {
	GinkgoHelper()
	paths, err := filepath.Glob(filepath.Join("../../config", directory, "*.yaml"))
	Expect(err).NotTo(HaveOccurred())
	Expect(paths).NotTo(BeEmpty())
	var found []*unstructured.Unstructured
	for _, path := range paths {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		found = append(found, parseManifests(content)...)
	}
	return found
}

func parseManifests(stream []byte) []*unstructured.Unstructured {
	GinkgoHelper()
	var found []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return found
		}
		Expect(err).NotTo(HaveOccurred())
		if len(object.Object) > 0 {
			found = append(found, object)
		}
	}
}

// applyConfig creates what a directory of config/ lists.
func applyConfig(ctx context.Context, c client.Client, directory string) {
	GinkgoHelper()
	for _, object := range configManifests(directory) {
		Expect(c.Create(ctx, object)).To(Succeed(), "%s %s", object.GetKind(), object.GetName())
	}
}
