package plugin

import (
	"context"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CompletionName is the name of the executable that kubectl asks for completions of a plugin's command line:
// https://kubernetes.io/docs/reference/kubectl/introduction/#completion. The plugin under that name is one.
const CompletionName = "kubectl_complete-modelrights"

// CompletionArgs returns the arguments to run the plugin with, given its name as it was called and its arguments: under the
// name that kubectl has for completion, it completes them.
func CompletionArgs(name string, args []string) []string {
	if strings.TrimSuffix(filepath.Base(name), ".exe") == CompletionName {
		return append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	return args
}

// completionTimeout bounds what is asked of a cluster while somebody waits for the next word.
const completionTimeout = 3 * time.Second

// podTypes are what explain is usually asked about.
var podTypes = []string{"pod", "deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob"}

// completeObjects completes TYPE/NAME.
func completeObjects(cluster *genericclioptions.ConfigFlags) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		kind, _, named := strings.Cut(toComplete, "/")
		if !named {
			var types []string
			for _, t := range podTypes {
				if strings.HasPrefix(t, toComplete) {
					types = append(types, t+"/")
				}
			}
			return types, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		return objectNames(cluster, kind), cobra.ShellCompDirectiveNoFileComp
	}
}

// objectNames lists TYPE/NAME of what there is in the namespace; nothing where it cannot be read.
func objectNames(cluster *genericclioptions.ConfigFlags, kind string) []string {
	namespace, _, err := cluster.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil
	}
	timeout := completionTimeout.String()
	cluster.Timeout = &timeout
	var names []string
	err = resource.NewBuilder(cluster).
		Unstructured().
		NamespaceParam(namespace).DefaultNamespace().
		ResourceTypeOrNameArgs(true, kind).
		RequestChunksOf(100).
		Flatten().
		Do().
		Visit(func(info *resource.Info, err error) error {
			if err != nil {
				return err
			}
			accessor, err := meta.Accessor(info.Object)
			if err != nil {
				return err
			}
			names = append(names, kind+"/"+accessor.GetName())
			return nil
		})
	if err != nil {
		return nil
	}
	return names
}

// completeFlags completes the values of flags, on all commands.
func completeFlags(root *cobra.Command, cluster *genericclioptions.ConfigFlags) {
	fixed := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	register := func(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
		if cmd.Flag(flag) != nil {
			cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, complete))
		}
	}
	for _, cmd := range root.Commands() {
		register(cmd, "confidence", fixed(confidences...))
		switch cmd.Name() {
		case "images":
			register(cmd, "fail-on", fixed(confidences...))
			register(cmd, "output", fixed(newOutputFlags(formatWide, formatName).allowed()...))
		case "explain":
			register(cmd, "fail-on", fixed(explainFailOn...))
			register(cmd, "output", fixed(newOutputFlags(formatWide).allowed()...))
		case "version":
			register(cmd, "output", fixed(newOutputFlags().allowed()...))
		}
	}
	register(root, "namespace", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return namespaceNames(cmd.Context(), cluster), cobra.ShellCompDirectiveNoFileComp
	})
	inKubeconfig := func(names func(*genericclioptions.ConfigFlags) []string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return names(cluster), cobra.ShellCompDirectiveNoFileComp
		}
	}
	register(root, "context", inKubeconfig(contextNames))
	register(root, "cluster", inKubeconfig(clusterNames))
	register(root, "user", inKubeconfig(userNames))
}

func namespaceNames(ctx context.Context, cluster *genericclioptions.ConfigFlags) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	api, err := connect(cluster, io.Discard)
	if err != nil {
		return nil
	}
	var list corev1.NamespaceList
	if err := api.List(ctx, &list, client.Limit(500)); err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

func contextNames(cluster *genericclioptions.ConfigFlags) []string {
	config, err := cluster.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(config.Contexts))
}

func clusterNames(cluster *genericclioptions.ConfigFlags) []string {
	config, err := cluster.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(config.Clusters))
}

func userNames(cluster *genericclioptions.ConfigFlags) []string {
	config, err := cluster.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(config.AuthInfos))
}
