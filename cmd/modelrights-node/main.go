//go:build linux

// modelrights-node is the CSI driver that brings model keys into pods. It runs as root on every node, in a privileged
// container, and needs no access to the Kubernetes API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/client"
	"modelrights.dev/modelrights/internal/nodedriver"
	"modelrights.dev/modelrights/internal/secrecy"
	"modelrights.dev/modelrights/internal/version"
)

// settings are what the flags say.
type settings struct {
	nodeName         string
	kubeletDir       string
	csiSocket        string
	registrationDir  string
	healthAddress    string
	logLevel         string
	keyService       client.Options
	printVersionOnly bool
}

func main() {
	s, err := parse(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil && s.printVersionOnly {
		fmt.Println("modelrights-node", version.Version)
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, s)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "modelrights-node:", err)
		os.Exit(1)
	}
}

// parse reads the flags; NODE_NAME in the environment is the default of --node-name.
func parse(args []string, getenv func(string) string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("modelrights-node", flag.ContinueOnError)
	flags.StringVar(&s.nodeName, "node-name", getenv("NODE_NAME"), "name of the Node that the driver runs on; default $NODE_NAME")
	flags.StringVar(&s.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's --root-dir, mounted at the same path with Bidirectional propagation")
	flags.StringVar(&s.csiSocket, "csi-socket", "", "path of the driver's socket; default KUBELET-DIR/plugins/"+v1alpha1.CSIDriverName+"/csi.sock")
	flags.StringVar(&s.registrationDir, "registration-dir", "", "directory in which kubelet looks for plugins; default KUBELET-DIR/plugins_registry")
	flags.StringVar(&s.healthAddress, "health-addr", ":8081", "address of /healthz, /readyz and /metrics (plain HTTP)")
	flags.StringVar(&s.logLevel, "log-level", "info", "info or debug")
	flags.StringVar(&s.keyService.URL, "key-service-url", "", "base URL of the key service: https://HOST[:PORT]")
	flags.StringVar(&s.keyService.CAFile, "ca-file", "/etc/modelrights/ca/ca.crt", "certificates that sign the key service's, PEM; read at every call")
	flags.StringVar(&s.keyService.TokenFile, "token-file", "/var/run/secrets/modelrights/token", "the driver's own projected token; read at every call")
	flags.BoolVar(&s.printVersionOnly, "version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.csiSocket == "" {
		s.csiSocket = filepath.Join(s.kubeletDir, "plugins", v1alpha1.CSIDriverName, "csi.sock")
	}
	if s.registrationDir == "" {
		s.registrationDir = filepath.Join(s.kubeletDir, "plugins_registry")
	}
	return s, s.check(flags.Args())
}

func (s settings) check(rest []string) error {
	switch {
	case s.printVersionOnly:
		return nil
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: there are only flags", rest[0])
	case s.nodeName == "":
		return errors.New("--node-name is missing: set it, or NODE_NAME from spec.nodeName (downward API)")
	case s.keyService.URL == "":
		return errors.New("--key-service-url is missing: https://modelrights-keyservice.NAMESPACE.svc")
	case !filepath.IsAbs(s.kubeletDir) || filepath.Clean(s.kubeletDir) != s.kubeletDir:
		return fmt.Errorf("--kubelet-dir must be an absolute path without . and .., not %s", s.kubeletDir)
	case s.logLevel != "info" && s.logLevel != "debug":
		return fmt.Errorf("--log-level must be info or debug, not %q", s.logLevel)
	}
	return nil
}

func run(ctx context.Context, s settings) error {
	log := newLog(os.Stdout, s.logLevel == "debug")
	log.Info("Starting", "version", version.Version, "node", s.nodeName)
	if err := secrecy.DisableCoreDumps(); err != nil {
		log.Error(err, "Keys that pass through may reach a core dump")
	}
	lockErr := secrecy.LockMemory()
	if lockErr != nil {
		log.Error(lockErr, "The driver's memory is not locked: no key is fetched while swap is on")
	}
	keyService, err := client.New(s.keyService)
	if err != nil {
		return err
	}
	boot, err := nodedriver.NewLinuxBootClock()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	driver := nodedriver.New(nodedriver.Options{
		NodeName:   s.nodeName,
		KubeletDir: s.kubeletDir,
		Version:    version.Version,
		Keys:       keyService,
		Mounts:     nodedriver.LinuxMounts{},
		SwapAreas:  nodedriver.ReadSwapAreas,
		// Without it the driver fetches no key where swap is on.
		MemoryLocked: lockErr == nil,
		Boot:         boot,
		ReportDir:    filepath.Join(filepath.Dir(s.csiSocket), "reports"),
		Log:          log,
	})
	server, err := nodedriver.NewServer(driver, nodedriver.Sockets{
		CSI:          s.csiSocket,
		Registration: nodedriver.RegistrationSocket(s.registrationDir),
	}, registry)
	if err != nil {
		return err
	}
	return serve(ctx, server, registry, s.healthAddress)
}
