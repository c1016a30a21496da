// Command cluster runs a real Kubernetes of one node on this machine, for tests and the demo. Everything is built from Go
// modules; nothing is downloaded but sources. README.md says how it is made and what its limits are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `Runs a real Kubernetes of one node on this machine.

  cluster [--root DIR] COMMAND

  up [--control-plane-only] [--skip-build]   build what is missing and start the cluster
  down                                       remove the cluster and every trace of it
  status                                     list the parts and whether they work
  env                                        print settings for a shell
  logs PART [-f]                             print a part's log
  start PART | stop PART | restart PART      change one part, for tests
  packages                                   print the Debian packages that a node needs and the machine lacks
  build [--only control-plane|node|oldest]   build programs only; without --only all but "oldest"

Environment: CLUSTER_DIR (state; _output/cluster), CLUSTER_PORT_*, CLUSTER_POD_CIDR, CLUSTER_SERVICE_CIDR,
CLUSTER_NODE_ADDRESS, CLUSTER_NODE_NAME, CLUSTER_BRIDGE, CLUSTER_CGROUP.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return
	case !errors.Is(err, errNotUp):
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	root := flags.String("root", "", "`directory` of the repository; by default found from the working directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	command, args := flags.Arg(0), flags.Args()
	if command == "" {
		flags.Usage()
		return errors.New("no command given")
	}
	args = args[1:]
	switch command {
	case "launch":
		return launch(args)
	case "serve-registry":
		return serveRegistry(args)
	case "packages":
		return printPackages(os.Stdout)
	case "help":
		flags.SetOutput(os.Stdout)
		flags.Usage()
		return nil
	}
	cluster, err := open(*root)
	if err != nil {
		return err
	}
	return dispatch(ctx, cluster, command, args)
}

func open(root string) (*Cluster, error) {
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		if root, err = findRoot(dir); err != nil {
			return nil, err
		}
	}
	return openCluster(root, os.Getenv, os.Stdout)
}

func dispatch(ctx context.Context, c *Cluster, command string, args []string) error {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	switch command {
	case "up":
		var options upOptions
		flags.BoolVar(&options.controlPlaneOnly, "control-plane-only", false, "start no node, even where one could run")
		flags.BoolVar(&options.skipBuild, "skip-build", false, "take the programs as they are")
		if err := parse(flags, args, 0); err != nil {
			return err
		}
		return c.up(ctx, options)
	case "build":
		only := flags.String("only", groupControlPlane+","+groupNode, "comma-separated `groups`: control-plane, node, oldest")
		if err := parse(flags, args, 0); err != nil {
			return err
		}
		groups := strings.Split(*only, ",")
		for _, group := range groups {
			if group != groupControlPlane && group != groupNode && group != groupOldest {
				return fmt.Errorf("--only %q: want control-plane, node or oldest", group)
			}
		}
		unlock, err := c.lock()
		if err != nil {
			return err
		}
		defer unlock()
		return c.build(ctx, groups)
	case "down", "status", "env":
		if err := parse(flags, args, 0); err != nil {
			return err
		}
		return map[string]func() error{
			"down": c.down, "env": c.printEnv, "status": func() error { return c.status(ctx) },
		}[command]()
	case "logs":
		follow := len(args) == 2 && args[1] == "-f"
		if len(args) != 1 && !follow {
			return errors.New("logs: want the name of a part, and -f to follow")
		}
		return c.logs(ctx, args[0], follow)
	case "start", "stop", "restart":
		if err := parse(flags, args, 1); err != nil {
			return err
		}
		part := flags.Arg(0)
		return map[string]func() error{
			"start":   func() error { return c.startPart(ctx, part) },
			"stop":    func() error { return c.stopPart(part) },
			"restart": func() error { return c.restartPart(ctx, part) },
		}[command]()
	}
	return fmt.Errorf("unknown command %q: see `cluster help`", command)
}

// parse parses a command's flags and insists on the number of arguments after them.
func parse(flags *flag.FlagSet, args []string, want int) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != want {
		return fmt.Errorf("%s: want %d arguments, have %q", flags.Name(), want, flags.Args())
	}
	return nil
}
