// Command seats measures how fast pods get their seats, and what the operator costs while very many pods hold some:
// memory and CPU at rest, while pods come and go, and while nodes renew their leases, and how long it takes to start.
// docs/benchmarks.md says how to read it.
//
// It starts an API server, etcd and the operator's binary, each a process of its own, and ends them. There are no kubelets
// and no scheduler.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// options are the flags.
type options struct {
	out, assets, root string
	operator          string
	keep, profiles    string
	plan              plan
}

func main() {
	o := options{plan: full()}
	isShort := flag.Bool("short", false, "measure for about two minutes, for development: fewer licences, fewer pods")
	burst := flag.Int("burst", 0, "pods that are created at once; 0: 5000, or 500 with -short")
	licenses := flag.Int("licenses", 0, "licences, of ten grants each; 0: 10000, or 1000 with -short")
	held := flag.Int("held", 0, "pods that hold a seat, at most 9 for each licence; 0: 50000, or 5000 with -short")
	atMost := flag.Duration("timeout", 20*time.Minute, "end with an error after so long")
	flag.StringVar(&o.out, "out", "_output/bench", "directory that seats.json and seats.txt are written to")
	flag.StringVar(&o.assets, "assets", "_output/bin", "directory with kube-apiserver and etcd")
	flag.StringVar(&o.root, "root", ".", "directory of the project")
	flag.StringVar(&o.operator, "operator", "", "the operator's binary; empty: build it")
	flag.StringVar(&o.keep, "logs", "", "directory that keeps the logs of all processes; empty: they are removed unless something fails")
	flag.StringVar(&o.profiles, "profiles", "", "directory that gets profiles of the operator; empty: none are taken")
	flag.Parse()
	if *isShort {
		o.plan = short()
	}
	for given, to := range map[*int]*int{burst: &o.plan.Burst, licenses: &o.plan.Licenses, held: &o.plan.Held} {
		if *given > 0 {
			*to = *given
		}
	}
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, *atMost, fmt.Errorf("it has taken longer than %v", *atMost))
	err := run(ctx, &o)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "seats:", err)
		os.Exit(1)
	}
}

// run measures and writes the results. The processes it starts have ended when it returns.
func run(ctx context.Context, o *options) (err error) {
	if err := o.plan.validate(); err != nil {
		return err
	}
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "modelrights-bench-"); err != nil {
			return err
		}
		defer func() {
			if err == nil || ctx.Err() != nil {
				os.RemoveAll(dir) //nolint:errcheck // it is temporary
				return
			}
			err = fmt.Errorf("%w (logs are in %s)", err, dir)
		}()
	}
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(o.out, 0o755)); err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	result, err := measureAll(ctx, o, dir)
	if err != nil {
		return err
	}
	return gauge.Write(o.out, "seats", result, result.print)
}
