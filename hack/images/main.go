// Command images builds container images from static binaries and data files, without Docker and from scratch, and
// pushes them to a registry or writes them as a tar of an OCI image layout. The same input always gives the same
// digest. It prints the image's reference by digest on standard output and nothing else there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

const usage = `Builds an image from scratch and prints its reference by digest.

  go run ./hack/images --image 10.213.1.1:17500/modelrights-operator:dev \
    --file _output/bin/modelrights-operator:/modelrights-operator \
    --entrypoint /modelrights-operator --user 65532 --push

A --file may be a directory; its regular files go into one layer. Every --file is a layer of its own.
--push uses plain HTTP for a registry on loopback or at a private IPv4 address, and credentials from the Docker configuration elsewhere.

`

// options is what the command line asks for.
type options struct {
	spec   imageSpec
	push   bool
	output string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "images:", err)
		}
		os.Exit(1)
	}
}

// run is main without the process: it parses args, builds, writes, and prints the digest reference to stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opts, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	built, err := build(opts.spec)
	if err != nil {
		return err
	}
	if opts.output != "" {
		if err := writeLayoutTar(opts.output, opts.spec, built); err != nil {
			return err
		}
	}
	if opts.push {
		if err := push(ctx, opts.spec.reference, built); err != nil {
			return err
		}
	}
	digest, err := built.Digest()
	if err != nil {
		return fmt.Errorf("digest of %s: %w", opts.spec.reference, err)
	}
	_, err = fmt.Fprintln(stdout, opts.spec.reference.Context().Digest(digest.String()))
	return err
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	opts := options{spec: imageSpec{labels: map[string]string{}, annotations: map[string]string{}}}
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	var files, entrypoint, command, env, labels, annotations list
	image := flags.String("image", "", "`reference` of the image, with a tag")
	flags.Var(&files, "file", "`LOCAL:/path/in/image`, a file or directory to put in; may be repeated")
	flags.Var(&entrypoint, "entrypoint", "program to run, then its fixed arguments, one `word` a flag")
	flags.Var(&command, "cmd", "default arguments, one `word` a flag")
	flags.Var(&env, "env", "`NAME=VALUE` in the container's environment; may be repeated")
	flags.Var(&labels, "label", "`KEY=VALUE` of the image's configuration; may be repeated")
	flags.Var(&annotations, "annotation", "`KEY=VALUE` of the image's manifest; may be repeated")
	flags.StringVar(&opts.spec.user, "user", "65532", "`user` the container runs as; 0 for the node driver")
	flags.StringVar(&opts.spec.workdir, "workdir", "/", "working `directory`")
	platform := flags.String("platform", "linux/"+runtime.GOARCH, "`os/architecture` of the binaries")
	flags.BoolVar(&opts.push, "push", false, "push to the registry that the reference names")
	flags.StringVar(&opts.output, "output", "", "write a tar of an OCI image layout to this `file`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: every argument belongs to a flag, see --help", flags.Arg(0))
	}
	if !opts.push && opts.output == "" {
		return options{}, errors.New("nothing would be written: give --push, --output FILE, or both")
	}
	spec := &opts.spec
	spec.entrypoint, spec.command, spec.env = entrypoint, command, env
	var err error
	if spec.reference, err = parseReference(*image); err != nil {
		return options{}, err
	}
	if spec.os, spec.architecture, err = parsePlatform(*platform); err != nil {
		return options{}, err
	}
	for _, file := range files {
		entry, err := parseFile(file)
		if err != nil {
			return options{}, err
		}
		spec.files = append(spec.files, entry)
	}
	if len(spec.files) == 0 {
		return options{}, errors.New("the image would be empty: give at least one --file LOCAL:/path/in/image")
	}
	for _, pair := range env {
		if _, _, err := parsePair("env", pair); err != nil {
			return options{}, err
		}
	}
	for flagName, target := range map[string]struct {
		pairs list
		into  map[string]string
	}{"label": {labels, spec.labels}, "annotation": {annotations, spec.annotations}} {
		for _, pair := range target.pairs {
			key, value, err := parsePair(flagName, pair)
			if err != nil {
				return options{}, err
			}
			target.into[key] = value
		}
	}
	return opts, nil
}

func parsePair(flagName, pair string) (key, value string, err error) {
	key, value, found := strings.Cut(pair, "=")
	if !found || key == "" {
		return "", "", fmt.Errorf("--%s %q: want NAME=VALUE", flagName, pair)
	}
	return key, value, nil
}

func parsePlatform(platform string) (os, architecture string, err error) {
	os, architecture, found := strings.Cut(platform, "/")
	if !found || os == "" || architecture == "" || strings.Contains(architecture, "/") {
		return "", "", fmt.Errorf("--platform %q: want os/architecture, such as linux/amd64", platform)
	}
	return os, architecture, nil
}

// list is a flag that may be repeated.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, " ") }

// Set implements flag.Value.
func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
