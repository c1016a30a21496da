package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Groups of targets that `build --only` chooses from. A start needs the first, and with a node the second.
const (
	groupControlPlane = "control-plane"
	groupNode         = "node"
	groupOldest       = "oldest"
)

// target is something to build: programs of one module, or an image of one.
type target struct {
	name    string
	groups  []string
	inputs  []string // files and directories that decide the result
	outputs []string // files below Bin
	command func(c *Cluster, version string) *exec.Cmd
	// versionOf is the module whose version the programs are to report.
	versionOf string
	// goMod is where that version stands.
	goMod string
}

// nodeImage is an image that is made of one program and imported into containerd.
type nodeImage struct{ name, reference string }

// The images of the node. Their host exists nowhere, so that they can never be pulled from anyone.
const (
	pauseImage   = "cluster.modelrights.test/pause:1"
	corednsImage = "cluster.modelrights.test/coredns:1"
)

func nodeImages() []nodeImage {
	return []nodeImage{{"pause", pauseImage}, {"coredns", corednsImage}}
}

// targets lists all there is to build, in the order of building.
func (c *Cluster) targets() []target {
	component := func(name string) string { return filepath.Join(c.Sources, "components", name) }
	list := []target{
		c.programs("etcd", component("etcd"), []string{groupControlPlane, groupOldest}, "", map[string]string{"etcd": "."}),
		c.programs("Kubernetes control plane", component("kubernetes"), []string{groupControlPlane, groupOldest}, "k8s.io/kubernetes", map[string]string{
			"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
			"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
			"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
			"kubectl":                 "k8s.io/kubernetes/cmd/kubectl",
		}),
		c.programs("Kubernetes node", component("kubernetes"), []string{groupNode}, "k8s.io/kubernetes", map[string]string{
			"kubelet":    "k8s.io/kubernetes/cmd/kubelet",
			"kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
		}),
		c.programs("containerd", component("containerd"), []string{groupNode}, "github.com/containerd/containerd/v2", map[string]string{
			"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
			"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
		}),
		c.programs("CoreDNS", component("coredns"), []string{groupNode}, "", map[string]string{"coredns": "."}),
		c.programs("pause", filepath.Join(c.Sources, "pause"), []string{groupNode}, "", map[string]string{"pause": "."}),
	}
	for _, image := range nodeImages() {
		list = append(list, c.imageTarget(image))
	}
	return append(list, c.programs("oldest supported API server", component("kubernetes-oldest"), []string{groupOldest}, "k8s.io/kubernetes", map[string]string{
		"oldest/kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
	}))
}

// programs is a target that builds packages of the module in dir, all in one call of the go command.
func (c *Cluster) programs(name, dir string, groups []string, versionOf string, packages map[string]string) target {
	var outputs, names []string
	for output, pkg := range packages {
		outputs, names = append(outputs, output), append(names, pkg)
	}
	slices.Sort(outputs)
	slices.Sort(names)
	return target{
		name: name, groups: groups, inputs: []string{dir}, outputs: outputs,
		versionOf: versionOf, goMod: filepath.Join(dir, "go.mod"),
		command: func(c *Cluster, version string) *exec.Cmd {
			// Several programs need a directory as output, and one is best given its name.
			output := filepath.Join(c.Bin, filepath.Dir(outputs[0])) + string(filepath.Separator)
			if len(outputs) == 1 {
				output = c.binary(outputs[0])
			}
			args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", linkerFlags(versionOf, version), "-o", output}, names...)
			command := exec.Command("go", args...)
			command.Dir = dir
			command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
			return command
		},
	}
}

// linkerFlags have programs report the version of the module they come from, and leave debug information away.
func linkerFlags(module, version string) string {
	flags := "-s -w"
	switch module {
	case "k8s.io/kubernetes":
		const where = " -X k8s.io/component-base/version."
		major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
		minor, _, _ := strings.Cut(rest, ".")
		flags += where + "gitVersion=" + version + where + "gitMajor=" + major + where + "gitMinor=" + minor +
			where + "gitTreeState=clean"
	case "github.com/containerd/containerd/v2":
		flags += " -X " + module + "/version.Version=" + version
	}
	return flags
}

// imageTarget is a target that makes an image of the program of the same name.
func (c *Cluster) imageTarget(image nodeImage) target {
	images := filepath.Join(c.Root, "hack", "images")
	return target{
		name: "image " + image.name, groups: []string{groupNode},
		inputs:  []string{images, c.binary(image.name)},
		outputs: []string{filepath.Join("node-images", image.name+".tar")},
		command: func(c *Cluster, _ string) *exec.Cmd {
			command := exec.Command("go", "run", "./hack/images", "--image="+image.reference,
				"--file="+c.binary(image.name)+":/"+image.name, "--entrypoint=/"+image.name, "--user=65532",
				"--output="+c.NodeImages(image.name))
			command.Dir = c.Root
			command.Env = append(os.Environ(), "CGO_ENABLED=0")
			return command
		},
	}
}

// startGroups are the groups that a start with these settings needs.
func (c *Cluster) startGroups() []string {
	if c.NodeParts {
		return []string{groupControlPlane, groupNode}
	}
	return []string{groupControlPlane}
}

// build brings the targets of the groups up to date.
func (c *Cluster) build(ctx context.Context, groups []string) error {
	var chosen []target
	for _, t := range c.targets() {
		if slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(t.groups, g) }) {
			chosen = append(chosen, t)
		}
	}
	built := 0
	for i, t := range chosen {
		did, err := c.bring(ctx, t, fmt.Sprintf("build %d of %d: %s", i+1, len(chosen), t.name))
		if err != nil {
			return fmt.Errorf("build %s: %w", t.name, err)
		}
		if did {
			built++
		}
	}
	if slices.Contains(groups, groupOldest) {
		if err := c.linkAssets(); err != nil {
			return err
		}
	}
	c.say("build: %d of %d were up to date", len(chosen)-built, len(chosen))
	return nil
}

// bring builds one target if its stamp has changed, and says whether it did.
func (c *Cluster) bring(ctx context.Context, t target, title string) (bool, error) {
	version := ""
	if t.versionOf != "" {
		var err error
		if version, err = requiredVersion(t.goMod, t.versionOf); err != nil {
			return false, err
		}
	}
	command := t.command(c, version)
	words := append([]string{runtime.Version(), runtime.GOOS, runtime.GOARCH, linkerFlags(t.versionOf, version)}, t.outputs...)
	stamp, err := stampOf(c.Root, words, t.inputs)
	if err != nil {
		return false, err
	}
	stampFile := filepath.Join(c.Bin, ".stamps", strings.ReplaceAll(strings.ToLower(t.name), " ", "-"))
	var outputs []string
	for _, output := range t.outputs {
		outputs = append(outputs, c.binary(output))
	}
	if done, err := fresh(stampFile, stamp, outputs); done || err != nil {
		return false, err
	}
	started := time.Now()
	c.say("%s (%s)", title, strings.Join(t.outputs, ", "))
	if err := c.runShown(ctx, command, title); err != nil {
		return false, err
	}
	c.say("%s: done in %s", title, time.Since(started).Round(time.Second))
	return true, writeFile(stampFile, []byte(stamp), 0o644)
}

// runShown runs a command that may take minutes: it says from time to time that it still runs, and what the command
// said only if it fails.
func (c *Cluster) runShown(ctx context.Context, command *exec.Cmd, title string) error {
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	started := time.Now()
	if err := command.Start(); err != nil {
		return fmt.Errorf("run %s: %w", command.Path, err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	ticker := time.NewTicker(15 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return errors.Join(fmt.Errorf("%s: %w", strings.Join(command.Args[:2], " "), err), errors.New(strings.TrimSpace(output.String())))
			}
			return nil
		case <-ticker.C:
			c.say("%s: still at it after %s", title, time.Since(started).Round(time.Second))
		case <-ctx.Done():
			command.Process.Kill() //nolint:errcheck // it is awaited in any case
			<-done
			return ctx.Err()
		}
	}
}

// requiredVersion reads which version of a module a go.mod requires.
func requiredVersion(goMod, module string) (string, error) {
	content, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", goMod, module)
}

// linkAssets puts beside the oldest API server what the integration tests expect in one directory with it.
func (c *Cluster) linkAssets() error {
	for _, name := range []string{"etcd", "kubectl"} {
		link := c.binary(filepath.Join(groupOldest, name))
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..", name), link); err != nil {
			return fmt.Errorf("link %s: %w", link, err)
		}
	}
	return nil
}
