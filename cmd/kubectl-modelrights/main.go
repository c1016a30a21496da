// Command kubectl-modelrights is a kubectl plugin that finds the models which manifests name, and explains who may use
// them. Under the name kubectl_complete-modelrights it completes the plugin's command line for kubectl.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/internal/plugin"
)

func main() {
	// Libraries have nothing to say to users that errors do not.
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	status := plugin.Run(ctx, plugin.CompletionArgs(os.Args[0], os.Args[1:]), streams)
	stop()
	os.Exit(status)
}
