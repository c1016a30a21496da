package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// Exit statuses. They are documented in docs/how-to/kubectl-plugin.md, and scripts rely on them.
const (
	// StatusOK means that nothing was found fault with.
	StatusOK = 0
	// StatusFindings means that explain found something refused, or that a command found what --fail-on names.
	StatusFindings = 1
	// StatusError means wrong usage, or that something could not be read, so that the answer is not complete.
	StatusError = 2
)

// findings says that a command did its work and found something. Commands return it, or any other error for StatusError.
type findings struct{ message string }

func (f findings) Error() string { return f.message }

// usageError says that the command line is wrong.
type usageError struct {
	command string
	err     error
}

func (u usageError) Error() string {
	return fmt.Sprintf("%v\nSee '%s --help' for usage.", u.err, u.command)
}

func (u usageError) Unwrap() error { return u.err }

// usageErrorf returns an error about the command line of a command.
func usageErrorf(cmd *cobra.Command, format string, args ...any) error {
	return usageError{command: cmd.CommandPath(), err: fmt.Errorf(format, args...)}
}

// Run runs the plugin with the arguments that follow its name and returns the exit status.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	root := NewCommand(streams)
	root.SetArgs(args)
	return exitStatus(root.ExecuteContext(ctx), streams.ErrOut)
}

// exitStatus writes what a command returned, and says what that means for scripts.
func exitStatus(err error, w io.Writer) int {
	if err == nil {
		return StatusOK
	}
	printError(w, err)
	var f findings
	if errors.As(err, &f) {
		return StatusFindings
	}
	return StatusError
}

// printError writes each of several errors on a line of its own. Texts of others cannot steer the terminal by it.
func printError(w io.Writer, err error) {
	// Those within a wrapped error stay with what it says of them.
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			printError(w, e)
		}
		return
	}
	fmt.Fprintf(w, "error: %s\n", strings.TrimRight(printers.EscapeTerminal(err.Error()), "\n"))
}
