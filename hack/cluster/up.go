package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// upOptions are the choices of `up`.
type upOptions struct {
	// controlPlaneOnly leaves the node away even where one could run.
	controlPlaneOnly bool
	// skipBuild takes the programs as they are.
	skipBuild bool
}

// up starts the cluster, unless it is up already.
func (c *Cluster) up(ctx context.Context, options upOptions) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c.exists() || c.nodeRemains() {
		if running, err := c.reuse(ctx); running || err != nil {
			return err
		}
		c.say("removing what an earlier cluster left behind")
		if err := c.remove(); err != nil {
			return err
		}
	}
	reason := nodeObstacle()
	if options.controlPlaneOnly {
		reason = "asked for the control plane only"
	}
	if c.NodeParts = reason == ""; !c.NodeParts {
		c.say("%s: starting the control plane only; %s", reason, withoutNode)
	}
	if err := checkPorts(c.ports(), findHolder); err != nil {
		return err
	}
	var machine host
	if c.NodeParts {
		if machine, err = c.checkMachine(); err != nil {
			return err
		}
	}
	if !options.skipBuild {
		if err := c.build(ctx, c.startGroups()); err != nil {
			return err
		}
	}
	if err := c.run(ctx, machine); err != nil {
		return fmt.Errorf("%w\n`down` removes what was started", err)
	}
	return nil
}

// reuse says whether the cluster is up already. Half a cluster is an error: neither reusing nor replacing it is safe to
// decide for the user.
func (c *Cluster) reuse(ctx context.Context) (bool, error) {
	var alive, dead []string
	for _, p := range partsOf(c.Settings) {
		identity, err := readIdentity(c.PidFile(p.name))
		if err != nil {
			return false, err
		}
		if identity.alive() {
			alive = append(alive, p.name)
		} else {
			dead = append(dead, p.name)
		}
	}
	if len(alive) == 0 {
		return false, nil
	}
	if len(dead) > 0 {
		return false, fmt.Errorf("the cluster in %s is half up: %s ended or never started, %s runs; use `start PART` for each, or `down`",
			c.Dir, strings.Join(dead, ", "), strings.Join(alive, ", "))
	}
	if err := c.awaitAll(ctx); err != nil {
		return false, fmt.Errorf("the cluster in %s runs, but does not work: %w", c.Dir, err)
	}
	c.say("the cluster in %s is already up; it is used as it is", c.Dir)
	return true, nil
}

// run starts all parts. Settings and claims are on disk before anything is changed, so that `down` knows at any moment.
func (c *Cluster) run(ctx context.Context, machine host) error {
	if c.NodeParts {
		if err := c.recordClaims(); err != nil {
			return fmt.Errorf("record the state of the machine: %w", err)
		}
	}
	if err := c.recordSettings(); err != nil {
		return fmt.Errorf("record the settings: %w", err)
	}
	if err := writePKI(c.Layout, c.Settings, time.Now()); err != nil {
		return err
	}
	if err := writeConfig(newValues(c.Settings, c.Layout, machine)); err != nil {
		return err
	}
	if c.NodeParts {
		if err := c.prepareNode(); err != nil {
			return err
		}
	}
	needsAPI := map[string]bool{"kube-controller-manager": true, "kube-scheduler": true, "kubelet": true, "kube-proxy": true}
	for _, p := range partsOf(c.Settings) {
		if !needsAPI[p.name] {
			if err := c.start(p); err != nil {
				return err
			}
		}
	}
	imported := make(chan error, 1)
	go func() { imported <- c.importImages(ctx) }()
	if err := c.await(ctx, "wait for the API server", 90*time.Second, func(ctx context.Context) error {
		return c.probe(ctx, "ca", "admin", c.apiAddress(), c.Ports.APIServer, "/readyz")
	}, "etcd", "kube-apiserver"); err != nil {
		return err
	}
	for _, p := range partsOf(c.Settings) {
		if needsAPI[p.name] {
			if err := c.start(p); err != nil {
				return err
			}
		}
	}
	if err := <-imported; err != nil {
		return err
	}
	if c.NodeParts {
		if err := c.await(ctx, "install cluster DNS", 30*time.Second, c.applyDNS, "kube-apiserver", "etcd"); err != nil {
			return err
		}
	}
	if err := c.awaitAll(ctx); err != nil {
		return err
	}
	c.say("the cluster is up; its settings for a shell: . %s", c.EnvFile())
	return nil
}

// awaitPart waits for one part, and reports it.
func (c *Cluster) awaitPart(ctx context.Context, name string) error {
	p, err := findPart(c.Settings, name)
	if err != nil {
		return err
	}
	err = c.await(ctx, "wait for "+p.name, 90*time.Second, func(ctx context.Context) error { return p.ready(ctx, c) }, p.name)
	if err == nil {
		c.say("%s is ready", p.name)
	}
	return err
}

// awaitAll waits until every part works, the node is ready and DNS answers.
func (c *Cluster) awaitAll(ctx context.Context) error {
	var names []string
	for _, p := range partsOf(c.Settings) {
		names = append(names, p.name)
		if err := c.awaitPart(ctx, p.name); err != nil {
			return err
		}
	}
	if err := c.await(ctx, "wait for service accounts", 60*time.Second, c.accountsReady, names...); err != nil {
		return err
	}
	if !c.NodeParts {
		return nil
	}
	if err := c.await(ctx, "wait for the node", 90*time.Second, c.nodeReady, names...); err != nil {
		return err
	}
	if err := c.labelNode(ctx); err != nil {
		return err
	}
	c.say("node %s is ready", c.NodeName)
	if err := c.await(ctx, "wait for cluster DNS", 90*time.Second, c.dnsAvailable, names...); err != nil {
		return err
	}
	c.say("cluster DNS is available")
	return nil
}

// importImages gives containerd the images that the node itself needs; no registry has to be up for them.
func (c *Cluster) importImages(ctx context.Context) error {
	if !c.NodeParts {
		return nil
	}
	if err := c.await(ctx, "wait for containerd", 30*time.Second, func(ctx context.Context) error {
		return c.ctr(ctx, "version")
	}, "containerd"); err != nil {
		return err
	}
	for _, image := range nodeImages() {
		if err := c.ctr(ctx, "--namespace=k8s.io", "images", "import", c.NodeImages(image.name)); err != nil {
			return fmt.Errorf("import the image %s: %w", image.reference, err)
		}
	}
	return nil
}

func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	return runQuietly(exec.CommandContext(ctx, c.binary("ctr"), append([]string{"--address=" + c.ContainerdSocket()}, args...)...))
}

func (c *Cluster) applyDNS(ctx context.Context) error {
	return runQuietly(exec.CommandContext(ctx, c.binary("kubectl"), "--kubeconfig="+c.Kubeconfig(),
		"apply", "--server-side", "--force-conflicts", "-f", c.Config("coredns.yaml")))
}

// runQuietly runs a program and shows what it said only if it fails.
func runQuietly(command *exec.Cmd) error {
	command.Env = append(os.Environ(), "KUBECONFIG=", "HTTPS_PROXY=", "https_proxy=")
	output, err := command.CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(string(output))))
	}
	return nil
}
