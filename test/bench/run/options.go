// Package run is what the benchmarks on an API server without nodes have in common: their flags, what they start, and where
// they write.
package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// Options are the flags that all of them have.
type Options struct {
	// Name is the benchmark's. It names the files of its results, and begins what it says of errors.
	Name string
	// Short asks for less, for development.
	Short bool

	out, assets, root string
	operator          string
	logs, profiles    string
	atMost            time.Duration
}

// Register adds the flags. A run that takes longer than atMost ends with an error, unless -timeout says otherwise.
func Register(flags *flag.FlagSet, name string, atMost time.Duration) *Options {
	o := &Options{Name: name}
	flags.BoolVar(&o.Short, "short", false, "measure for a few minutes, for development: fewer licences, fewer pods. Aims are not judged")
	flags.DurationVar(&o.atMost, "timeout", atMost, "end with an error after so long")
	flags.StringVar(&o.out, "out", "_output/bench", "directory that "+name+".json and "+name+".txt are written to")
	flags.StringVar(&o.assets, "assets", "_output/bin", "directory with kube-apiserver and etcd")
	flags.StringVar(&o.root, "root", ".", "directory of the project")
	flags.StringVar(&o.operator, "operator", "", "the operator's binary; empty: build it")
	flags.StringVar(&o.logs, "logs", "", "directory that keeps the logs of all processes; empty: they are removed unless something fails")
	flags.StringVar(&o.profiles, "profiles", "", "directory that gets profiles; empty: none are taken")
	return o
}

// Main measures, until it is done, interrupted or out of time. After an error it says so and ends the process.
func (o *Options) Main(measure func(context.Context, *Run) error) {
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, o.atMost, fmt.Errorf("it has taken longer than %v", o.atMost))
	err := o.run(ctx, measure)
	cancel()
	stop()
	o.Check(err)
}

// Check ends the process after an error.
func (o *Options) Check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", o.Name, err)
		os.Exit(1)
	}
}

// run makes the directories and measures. What was started for it has ended when it returns.
func (o *Options) run(ctx context.Context, measure func(context.Context, *Run) error) (err error) {
	dir := o.logs
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
	load, err := gauge.LoadAverages()
	if err != nil {
		return err
	}
	return measure(ctx, &Run{options: o, Dir: dir, Started: time.Now().UTC(), load: load})
}

// Run is one run of a benchmark.
type Run struct {
	// Dir holds logs, and what else is needed for the time of the run.
	Dir     string
	Started time.Time

	options *Options
	// load are the load averages before anything was started.
	load string
}

// Log says what is going on, and since when.
func (r *Run) Log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs "+format+"\n", append([]any{time.Since(r.Started).Seconds()}, args...)...)
}

// Profiles says whether profiles are asked for.
func (r *Run) Profiles() bool { return r.options.profiles != "" }

// Profile keeps a profile under a name, where profiles are asked for.
func (r *Run) Profile(name string, take func() ([]byte, error)) error {
	if !r.Profiles() {
		return nil
	}
	content, err := take()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.options.profiles, name+".pprof"), content, 0o600)
}

// Write writes the results, and shows their tables.
func (r *Run) Write(report any, tables func(io.Writer) error) error {
	return gauge.Write(r.options.out, r.options.Name, report, tables)
}
