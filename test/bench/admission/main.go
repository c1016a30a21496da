// Command admission measures what admission costs: the API server's latency and the operator's CPU and memory, with
// pods of several kinds, in one run, interleaved, at a fixed rate of arrival. docs/benchmarks.md says how to read it.
//
// It starts an API server, etcd, the operator's binary and an empty webhook, each a process of its own, and ends them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
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
	viaAPI            bool
	plan              plan
}

func main() {
	var o options
	isShort := flag.Bool("short", false, "measure for about two minutes, for development: fewer licences, fewer pods")
	empty := flag.String("serve-empty", "", "serve the empty webhook at this address, and do nothing else")
	dir := flag.String("dir", "", "directory of its certificate")
	sizes := flag.String("sizes", "", "numbers of licences, ascending, separated by commas; empty: 10,1000,10000, or 10,1000 with -short")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the order of the slices")
	slices := flag.Int("slices", 0, "of each variant at each size; 0: 12, or 3 with -short")
	atMost := flag.Duration("timeout", 30*time.Minute, "end with an error after so long")
	flag.StringVar(&o.out, "out", "_output/bench", "directory that admission.json and admission.txt are written to")
	flag.StringVar(&o.assets, "assets", "_output/bin", "directory with kube-apiserver and etcd")
	flag.StringVar(&o.root, "root", ".", "directory of the project")
	flag.StringVar(&o.operator, "operator", "", "the operator's binary; empty: build it")
	flag.StringVar(&o.keep, "logs", "", "directory that keeps the logs of all processes; empty: they are removed unless something fails")
	flag.StringVar(&o.profiles, "profiles", "", "directory that gets profiles of the operator at every size; empty: none are taken")
	flag.BoolVar(&o.viaAPI, "via-api", false, "create every licence and grant through the API server, which takes long")
	flag.Parse()
	if *empty != "" {
		fail(serveEmpty(*empty, *dir))
		return
	}
	o.plan = full()
	if *isShort {
		o.plan = short()
	}
	if *slices > 0 {
		o.plan.Slices = *slices
	}
	if *sizes != "" {
		o.plan.Sizes = nil
		for size := range strings.SplitSeq(*sizes, ",") {
			n, err := strconv.Atoi(size)
			if err != nil {
				fail(fmt.Errorf("-sizes: %w", err))
			}
			o.plan.Sizes = append(o.plan.Sizes, n)
		}
	}
	o.plan.Seed = *seed
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, *atMost, fmt.Errorf("it has taken longer than %v", *atMost))
	err := run(ctx, &o)
	cancel()
	stop()
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
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
	if err := gauge.Write(o.out, "admission", result, result.print); err != nil {
		return err
	}
	return result.problems()
}
