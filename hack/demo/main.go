// Command demo shows on a real cluster what modelrights does: it installs the chart, seals a model, and then shows,
// each with the command and its real output, who may run the model and who may not. It needs an administrator's
// KUBECONFIG, a REGISTRY to push images to, and in it the images of the operator, the node driver and the demo's
// inference server. `make demo` brings all of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options say which cluster the demo runs on, and how.
type options struct {
	registry, tag, kubeletDir string
	kubectl, helm, out, logs  string
	existing, keep            bool
}

func main() {
	opts := options{
		existing: os.Getenv("CLUSTER") == "existing",
		keep:     os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0",
		logs:     os.Getenv("CLUSTER_LOGS"),
	}
	flag.StringVar(&opts.registry, "registry", os.Getenv("REGISTRY"), "`host/prefix` that images are pushed to and pulled from (REGISTRY)")
	flag.StringVar(&opts.tag, "tag", env("TAG", "dev"), "`tag` of the images of operator, node driver and inference server (TAG)")
	flag.StringVar(&opts.kubeletDir, "kubelet-dir", env("KUBELET_DIR", "/var/lib/kubelet"), "kubelet's root `directory` on the nodes (KUBELET_DIR)")
	flag.StringVar(&opts.kubectl, "kubectl", "_output/bin/kubectl", "`program`")
	flag.StringVar(&opts.helm, "helm", "_output/bin/helm", "`program`")
	flag.StringVar(&opts.out, "out", "_output/demo", "`directory` for the model and its key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := opts.check(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
	if failed := run(ctx, opts, os.Stdout); failed > 0 {
		os.Exit(1)
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func (o options) check() error {
	if os.Getenv("KUBECONFIG") == "" {
		return fmt.Errorf("KUBECONFIG is not set: it names the cluster to run on; `make demo` starts one of its own")
	}
	if o.registry == "" {
		return fmt.Errorf("REGISTRY is not set: name the registry and path that you may push to and that the cluster's nodes pull from, such as REGISTRY=registry.example.com/team")
	}
	for _, program := range []string{o.kubectl, o.helm} {
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("%s is not built: run `make demo` rather than this program alone: %w", program, err)
		}
	}
	return nil
}

// step is one thing that the demo shows. An error means that it went otherwise than it should.
type step struct {
	title string
	show  func(*demo) error
	// needed means that nothing after it makes sense where it fails.
	needed bool
}

// run shows every step and returns how many failed.
func run(ctx context.Context, opts options, out io.Writer) (failed int) {
	started := time.Now()
	d := newDemo(ctx, opts, out)
	passed := 0
	for i, s := range steps {
		fmt.Fprintf(out, "\n=== %d. %s\n", i+1, s.title)
		if err := s.show(d); err != nil {
			failed++
			fmt.Fprintf(out, "--- FAIL: %v\n", err)
			if s.needed || ctx.Err() != nil {
				failed += len(steps) - i - 1
				fmt.Fprintf(out, "The %d steps that follow cannot be shown.\n", len(steps)-i-1)
				break
			}
			continue
		}
		passed++
		fmt.Fprintf(out, "--- PASS (%s after the start)\n", time.Since(started).Round(time.Second))
	}
	fmt.Fprintln(out)
	if failed > 0 {
		d.help()
	}
	switch {
	case opts.keep:
		fmt.Fprint(out, keepText(opts))
	case opts.existing:
		d.remove()
	}
	fmt.Fprintf(out, "demo: %d passed, %d failed\n", passed, failed)
	return failed
}

// keepText says how to go on with a cluster that is left as it is.
func keepText(o options) string {
	lines := []string{
		"Everything is left as it is. To look around:",
		"  export KUBECONFIG=" + os.Getenv("KUBECONFIG"),
		"  export PATH=$PWD/_output/bin:$PATH",
		"  " + o.kubectl + " modelrights explain -A pods                        # what may run, and why not",
		"  " + o.kubectl + " get modelrights -A                                # licences, grants, audit log",
		"  " + o.kubectl + " -n demo-ml-prod port-forward deployment/llm 8080   # then: curl localhost:8080/v1/model",
		"  " + o.kubectl + " -n modelrights-system logs deploy/modelrights-operator",
	}
	if !o.existing {
		lines = append(lines, "  make cluster-down                                           # when you are done")
	}
	return strings.Join(lines, "\n") + "\n\n"
}
