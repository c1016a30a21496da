// Command modelrights-operator runs the admission webhooks, the controllers and the key service.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/spf13/pflag"
	"go.uber.org/zap/zapcore"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"modelrights.dev/modelrights/internal/secrecy"
	"modelrights.dev/modelrights/internal/version"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "modelrights-operator:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	flags := pflag.NewFlagSet("modelrights-operator", pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.version {
		fmt.Println(version.Version)
		return nil
	}
	if err := o.validate(); err != nil {
		return err
	}
	limitMemory(os.Getenv("MEMORY_LIMIT_BYTES"))
	ctrl.SetLogger(zap.New(zap.JSONEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.ISO8601TimeEncoder }), zap.Level(o.zapLevel())))
	if err := secrecy.DisableCoreDumps(); err != nil {
		ctrl.Log.Error(err, "keys that pass through may reach a core dump")
	}
	ctx := ctrl.SetupSignalHandler()
	mgr, err := newManager(ctx, o)
	if err != nil {
		return err
	}
	ctrl.Log.Info("starting", "version", version.Version)
	return mgr.Start(ctx)
}

// limitMemory makes the garbage collector work harder when nine tenths of the container's limit are used, rather than
// let the kernel end the process. A limit that is no number of bytes is none.
func limitMemory(bytes string) {
	if limit, err := strconv.ParseInt(bytes, 10, 64); err == nil && limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}
