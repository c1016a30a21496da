package plugin

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// displayName is how users call the plugin.
const displayName = "kubectl modelrights"

// NewCommand returns kubectl modelrights with all its commands.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	cluster := newClusterFlags()
	root := &cobra.Command{
		Use:   "kubectl-modelrights",
		Short: "Find the models that manifests name, and explain who may use them",
		Long: "kubectl modelrights finds the images that manifests name, and explains, check by check, why pods may or may not " +
			"use the licensed models among them.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: displayName},
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErrorf(cmd, "unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageErrorf(cmd, "%w", err) })
	root.SetUsageTemplate(usageTemplate)
	cluster.AddFlags(root.PersistentFlags())
	root.AddCommand(
		newImagesCommand(streams),
		newExplainCommand(streams, cluster),
		newVersionCommand(streams, cluster),
		newOptionsCommand(),
	)
	completeFlags(root, cluster)
	return root
}

// newClusterFlags are the flags by which kubectl finds a cluster, a namespace and a user.
func newClusterFlags() *genericclioptions.ConfigFlags {
	return genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50)
}

// newOptionsCommand lists the flags that all commands have, which their own help leaves out, as kubectl does.
func newOptionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "options",
		Short:   "List the flags that all commands have",
		Example: "  # The flags that say which cluster, as whom and in which namespace\n  kubectl modelrights options",
		Args:    noArguments,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "The following options can be passed to any command:\n\n%s", cmd.Root().PersistentFlags().FlagUsagesWrapped(110))
		},
	}
	return cmd
}

// noArguments refuses arguments of a command that takes none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageErrorf(cmd, "unexpected argument %q", args[0])
	}
	return nil
}

// stringsFlag adds a flag of several values, separated by commas, of which each must be one of the allowed.
func stringsFlag(flags *pflag.FlagSet, target *[]string, name, usage string, allowed []string) {
	flags.StringSliceVar(target, name, *target, usage+" One or more of: ("+strings.Join(allowed, ", ")+").")
}

const usageTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{if .HasAvailableSubCommands}}Available Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}

{{end}}{{if .HasAvailableLocalFlags}}Options:
{{(.LocalNonPersistentFlags.FlagUsagesWrapped 110) | trimTrailingWhitespaces}}

{{end}}Usage:
  {{if .Runnable}}{{.UseLine}}{{else}}{{.CommandPath}} [command]{{end}}
{{if .HasAvailableSubCommands}}
Use "{{.CommandPath}} [command] --help" for more information about a given command.{{end}}
Use "kubectl modelrights options" for a list of global command-line options (applies to all commands).
`
