//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// setup is the cluster and what the suite built for it.
type setup struct {
	// root is the root of the repository, out the directory that the suite writes to.
	root, out string
	// registry is pushed to and pulled from; tag is that of our images in it.
	registry, tag string
	// kubeletDir is kubelet's root directory on this machine, which is the node.
	kubeletDir string
	// inference, probe, model and server are images: an ordinary inference server, the suite's own program, the sealed
	// model, and the model together with the server.
	inference, probe, model, server string
	// run tells this run of the suite from others.
	run string
	// key is the model key, weights the SHA-256 of the plain weights.
	key, weights string
}

func readSetup() setup {
	root, err := filepath.Abs("../..")
	Expect(err).NotTo(HaveOccurred())
	for _, variable := range []string{"KUBECONFIG", "REGISTRY", "KUBELET_DIR"} {
		Expect(os.Getenv(variable)).NotTo(BeEmpty(), "%s is not set: run `make test-e2e`, or read _output/cluster/env into the shell first", variable)
	}
	tag := os.Getenv("TAG")
	if tag == "" {
		tag = "dev"
	}
	return setup{
		root: root, out: filepath.Join(root, "_output", "e2e"),
		registry: os.Getenv("REGISTRY"), tag: tag, kubeletDir: os.Getenv("KUBELET_DIR"), run: rand.Text(),
	}
}

func (s *setup) buildImages() {
	run("go", "run", "./hack/demo/model", "-out", s.out)
	// Built by `make images`.
	inference, probe := s.root+"/_output/image/inference:/inference", s.root+"/_output/image/probe:/probe"
	model := filepath.Join(s.out, "model") + ":/model"
	s.inference = s.push("e2e/inference", "--file", inference, "--entrypoint", "/inference")
	s.probe = s.push("e2e/probe", "--file", probe, "--entrypoint", "/probe")
	s.model = s.push("models/chat-7b", "--file", model)
	s.server = s.push("models/chat-7b-server", "--file", model, "--file", inference, "--entrypoint", "/inference")

	key, err := os.ReadFile(filepath.Join(s.out, "model.key"))
	Expect(err).NotTo(HaveOccurred())
	s.key = string(key)
	weights, err := os.ReadFile(filepath.Join(s.out, "weights.safetensors"))
	Expect(err).NotTo(HaveOccurred())
	s.weights = hash(weights)
}

// push builds an image and returns its reference by digest.
func (s *setup) push(repository string, flags ...string) string {
	args := append([]string{"run", "./hack/images", "--push", "--image", s.registry + "/" + repository + ":e2e"}, flags...)
	return strings.TrimSpace(run("go", args...))
}

// install installs the chart, or brings an installation to the suite's settings, and waits until it works.
func install() {
	GinkgoHelper()
	run(filepath.Join(installed.root, "_output/bin/helm"), "upgrade", "--install", "modelrights", "charts/modelrights",
		"--namespace", operatorNamespace, "--create-namespace", "--wait", "--timeout", "4m",
		"--set", "image.registry="+installed.registry, "--set", "image.tag="+installed.tag, "--set", "image.pullPolicy=Always",
		"--set", "node.kubeletDir="+installed.kubeletDir, "--set", "operator.replicas=2",
		// On a cluster that was left up, images were built anew under the same tag.
		"--set", "operator.podAnnotations.e2e="+installed.run, "--set", "node.podAnnotations.e2e="+installed.run,
		"--set", "registries.plainHTTP={"+installed.registry+"}", "--set", "registries.resolveInterval=10s",
		"--set", "governedRepositories={"+installed.registry+"/models/**}")
}

// run runs a command in the root of the repository and returns what it printed on standard output.
func run(name string, args ...string) string {
	GinkgoHelper()
	output, err := command(name, args...)
	Expect(err).NotTo(HaveOccurred())
	return output
}

func kubectl(args ...string) (string, error) {
	return command(filepath.Join(installed.root, "_output/bin/kubectl"), args...)
}

func command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = installed.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return string(output), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(output), nil
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
