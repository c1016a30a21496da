// Command modelrights-operator runs the admission webhooks, the controllers and the key service.
package main

import (
	"fmt"
	"os"

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
	go paceGC(ctx)
	mgr, err := newManager(ctx, o)
	if err != nil {
		return err
	}
	ctrl.Log.Info("starting", "version", version.Version)
	return mgr.Start(ctx)
}
