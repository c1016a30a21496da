package plugin

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/plugin/view"
	"modelrights.dev/modelrights/internal/version"
)

// VersionInfo is what kubectl modelrights version prints.
type VersionInfo struct {
	metav1.TypeMeta `json:",inline"`
	Client          ClientVersion  `json:"client"`
	Server          *ServerVersion `json:"server,omitempty"`
}

// ClientVersion is that of the plugin.
type ClientVersion struct {
	Version   string `json:"version"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
}

// ServerVersion is that of the installation in the cluster, as far as it can be seen.
type ServerVersion struct {
	// Version is what the installation says of itself.
	Version string `json:"version,omitempty"`
	// Image is that of the operator; empty where the user may not see its Deployment.
	Image string `json:"image,omitempty"`
	// Namespace is the operator's.
	Namespace string `json:"namespace,omitempty"`
}

const versionExample = `  # The plugin's version, and that of the installation in the cluster
  kubectl modelrights version

  # Without asking the cluster
  kubectl modelrights version --client`

func newVersionCommand(streams genericiooptions.IOStreams, cluster *genericclioptions.ConfigFlags) *cobra.Command {
	output, clientOnly := newOutputFlags(), false
	cmd := &cobra.Command{
		Use:                   "version",
		DisableFlagsInUseLine: true,
		Short:                 "Print the versions of the plugin and of the installation",
		Long:                  "Print the version of the plugin and, as far as you may see it, that of the modelrights installation in the cluster.",
		Example:               versionExample,
		Args:                  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.validate(cmd); err != nil {
				return err
			}
			info := &VersionInfo{
				TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: "VersionInfo"},
				Client:   ClientVersion{Version: version.Version, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH},
			}
			var err error
			if !clientOnly {
				info.Server, err = serverVersion(cmd.Context(), cluster, streams)
			}
			if printErr := printVersion(streams, output, info); printErr != nil {
				return printErr
			}
			return err
		},
	}
	output.addTo(cmd)
	cmd.Flags().BoolVar(&clientOnly, "client", false, "Print the plugin's version alone, without contacting the cluster.")
	return cmd
}

func serverVersion(ctx context.Context, cluster *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) (*ServerVersion, error) {
	api, err := connect(cluster, streams.ErrOut)
	if err != nil {
		return nil, err
	}
	info, err := view.ReadInfo(ctx, api)
	if err != nil {
		return nil, fmt.Errorf("the installation's version cannot be seen: %w", err)
	}
	server := &ServerVersion{Version: info.Version, Namespace: info.OperatorNamespace}
	var operator appsv1.Deployment
	if err := api.Get(ctx, client.ObjectKey{Namespace: info.OperatorNamespace, Name: operatorComponent}, &operator); err == nil {
		containers := operator.Spec.Template.Spec.Containers
		if i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "operator" }); i >= 0 {
			server.Image = containers[i].Image
		}
	}
	return server, nil
}

func printVersion(streams genericiooptions.IOStreams, output *outputFlags, info *VersionInfo) error {
	if !output.isOwn() {
		return output.print(streams.Out, info)
	}
	fmt.Fprintf(streams.Out, "Client Version: %s\n", info.Client.Version)
	if s := info.Server; s != nil {
		line := "Server Version: " + firstOf(s.Version, "unknown")
		if s.Image != "" {
			line += " (operator image " + s.Image + ")"
		}
		fmt.Fprintln(streams.Out, visible(strings.TrimSpace(line)))
	}
	return nil
}
