package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/plugin/manifest"
	"modelrights.dev/modelrights/internal/plugin/view"
	"modelrights.dev/modelrights/internal/workloads"
)

const explainExample = `  # Why is my pod denied, and who can change that?
  kubectl modelrights explain deployment/chat

  # What was decided on a pod that runs, and what was logged of it
  kubectl modelrights explain pod/chat-7d9c5b6f4-x2x8q

  # Of all pods and workloads of a namespace
  kubectl modelrights explain pods,deployments -n ml-prod

  # In CI: would the pods of these manifests be admitted to the cluster?
  kubectl modelrights explain -f manifests/ -R
  helm template ./chart | kubectl modelrights explain -n ml-prod -f -

  # As another user or service account sees it
  kubectl modelrights explain deployment/chat --as ada

  # Only what is refused, for a script
  kubectl modelrights explain -f chat.yaml -o json |
    jq -r '.items[].references[] | select(.verdict == "Refused") | "\(.image) \(.reason): \(.remedy)"'`

const explainLong = `Explain the decision on every image that pods name, check by check: which licences cover it, which grants there are, what
is missing, and who can change that.

Pods and workloads are named as TYPE/NAME, or TYPE for all of them, or read from manifests with -f. Licences and the grants of their namespaces are
read from the cluster with your own rights; what you may not see is said, with whom to ask. The decision is the
operator's: the same function makes it.

Verdicts:

  Entitled     a licence and a grant cover the use
  NotGoverned  neither a licence nor the installation speaks of the image
  Refused      a pod with the image is denied at admission, unless its licences only watch, and gets no key
  Unknown      you cannot see all that the decision depends on
  Unresolved   the reference holds a placeholder: render the manifest first

Exit status: 0 if nothing is refused; 1 if something is, or is what --fail-on names; 2 for wrong usage, if something could
not be read, or if something is Unknown (unless --allow-unknown is given).`

// explainOptions are the flags of the explain command.
type explainOptions struct {
	streams      genericiooptions.IOStreams
	cluster      *genericclioptions.ConfigFlags
	files        *genericclioptions.FileNameFlags
	output       *outputFlags
	tables       []string
	governed     []string
	which        selection
	failOn       []string
	allowUnknown bool

	clock clock.PassiveClock
	// connect returns a reader of the cluster, and fetch objects of it by TYPE/NAME.
	connect func() (client.Reader, error)
	fetch   func(args []string) ([]*unstructured.Unstructured, error)
}

func newExplainCommand(streams genericiooptions.IOStreams, cluster *genericclioptions.ConfigFlags) *cobra.Command {
	o := &explainOptions{
		streams: streams,
		cluster: cluster,
		files:   newFileFlags("Files, directories or URLs of the manifests to explain; - is standard input."),
		output:  newOutputFlags(formatWide),
		clock:   clock.RealClock{},
	}
	o.connect = func() (client.Reader, error) { return connect(cluster, streams.ErrOut) }
	o.fetch = func(args []string) ([]*unstructured.Unstructured, error) { return fetchObjects(cluster, o.which, args) }
	return o.command()
}

func (o *explainOptions) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "explain (-f FILENAME | -k DIRECTORY | TYPE[/NAME] ...)",
		DisableFlagsInUseLine: true,
		Short:                 "Explain who may use the images of pods, check by check",
		Long:                  explainLong,
		Example:               explainExample,
		ValidArgsFunction:     completeObjects(o.cluster),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd, args); err != nil {
				return err
			}
			return o.run(cmd.Context(), args)
		},
	}
	o.files.AddFlags(cmd.Flags())
	o.output.addTo(cmd)
	addTableFlag(cmd, &o.tables)
	cmd.Flags().StringArrayVar(&o.governed, "governed-repository", nil,
		"Repository that is governed without a licence, HOST/PATH where a component may be * or **, instead of those that the installation names. May be repeated.")
	stringsFlag(cmd.Flags(), &o.failOn, "fail-on", "Exit with status 1 also if there are references of this kind.", explainFailOn)
	cmd.Flags().StringVarP(&o.which.labels, "selector", "l", "", "Label selector for the objects of a TYPE, such as app=chat.")
	cmd.Flags().BoolVarP(&o.which.allNamespaces, "all-namespaces", "A", false, "Explain the objects of a TYPE in all namespaces.")
	cmd.Flags().BoolVar(&o.allowUnknown, "allow-unknown", false, "Do not exit with status 2 because of references on which you cannot see the decision.")
	return cmd
}

// explainFailOn is what --fail-on takes.
var explainFailOn = []string{string(images.Unresolved)}

func (o *explainOptions) validate(cmd *cobra.Command, args []string) error {
	files := o.files.ToOptions()
	fromFiles := len(files.Filenames) > 0 || files.Kustomize != ""
	switch {
	case fromFiles && len(args) > 0:
		return usageErrorf(cmd, "only one of -f, -k and TYPE[/NAME] can be given")
	case !fromFiles && len(args) == 0:
		return usageErrorf(cmd, "must specify one of -f, -k and TYPE[/NAME]")
	}
	if fromFiles && (o.which.labels != "" || o.which.allNamespaces) {
		return usageErrorf(cmd, "-l and -A select objects of the cluster, and cannot be used with -f and -k")
	}
	if err := validateFiles(cmd, files, false); err != nil {
		return err
	}
	for _, v := range o.failOn {
		if v != string(images.Unresolved) {
			return usageErrorf(cmd, "--fail-on=%s: it must be %s", v, images.Unresolved)
		}
	}
	return o.output.validate(cmd)
}

func (o *explainOptions) run(ctx context.Context, args []string) error {
	table, err := readTable(o.tables)
	if err != nil {
		return err
	}
	namespace, explicit, err := o.cluster.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return err
	}
	gathered := &gathering{table: table, namespace: namespace, explicit: explicit, labels: map[string]map[string]string{}}
	var fetchErr error
	if len(args) > 0 {
		objects, err := o.fetch(args)
		if len(objects) == 0 && err != nil {
			return view.WhomToAsk(err)
		}
		fetchErr = view.WhomToAsk(err)
		for _, object := range objects {
			gathered.add(object.Object, manifest.Place{File: objectReference(object.Object).String()}, true)
		}
	} else {
		objects, broken := manifest.Reader{Stdin: o.streams.In}.Read(ctx, o.files.ToOptions())
		gathered.broken = broken
		for _, object := range objects {
			gathered.add(object.Content, object.Place, false)
		}
	}
	api, err := o.connect()
	if err != nil {
		return err
	}
	request := view.Request{Namespaces: gathered.namespaces(), DeclaredLabels: gathered.labels, GovernedRepositories: o.governed}
	seen, err := view.Read(ctx, api, request)
	if err != nil {
		return err
	}
	list := newExplanationList(seen, gathered.broken)
	for _, s := range gathered.subjects {
		explained := explain(s, seen, o.clock.Now())
		if s.pod != nil {
			explained.Admission = admissionOf(ctx, api, s.pod, seen)
		}
		list.Items = append(list.Items, explained)
	}
	// What was found out along the way counts too.
	list.Limits = seen.Limits
	if err := o.print(list); err != nil {
		return err
	}
	if err := errors.Join(fetchErr, joinErrors(gathered.broken)); err != nil {
		return err
	}
	return o.verdict(list)
}

func (o *explainOptions) print(list *ExplanationList) error {
	for _, limit := range list.Limits {
		fmt.Fprintf(o.streams.ErrOut, "warning: %s; %s\n", visible(limit.Message), visible(limit.Remedy))
	}
	if !o.output.isOwn() {
		return o.output.print(o.streams.Out, list)
	}
	if len(list.Items) == 0 && len(list.Errors) == 0 {
		fmt.Fprintln(o.streams.ErrOut, "No images found.")
		return nil
	}
	p := &explanationPrinter{w: o.streams.Out, wide: o.output.format == formatWide, colour: printers.AllowsColorOutput(o.streams.Out)}
	p.list(list)
	return nil
}

// verdict is the error that the exit status is made from.
func (o *explainOptions) verdict(list *ExplanationList) error {
	counts := countVerdicts(list)
	switch {
	case counts[Unknown] > 0 && !o.allowUnknown:
		return fmt.Errorf("%s could not be decided on with what you may see (--allow-unknown accepts that)", references(counts[Unknown]))
	case counts[Refused] > 0:
		return findings{fmt.Sprintf("%s refused", references(counts[Refused]))}
	case counts[Unresolved] > 0 && len(o.failOn) > 0:
		return findings{fmt.Sprintf("%s unresolved (--fail-on)", references(counts[Unresolved]))}
	}
	return nil
}

func references(n int) string {
	if n == 1 {
		return "1 reference"
	}
	return fmt.Sprintf("%d references", n)
}

// countVerdicts counts references, and refused fields.
func countVerdicts(list *ExplanationList) map[Verdict]int {
	counts := map[Verdict]int{}
	for _, item := range list.Items {
		for _, r := range item.References {
			counts[r.Verdict]++
		}
		counts[Refused] += len(item.Volumes) + len(item.Fields)
	}
	return counts
}

// gathering is what was read of what is asked about.
type gathering struct {
	table     workloads.Table
	namespace string
	explicit  bool
	subjects  []*subject
	labels    map[string]map[string]string
	broken    []*manifest.Error
}

// add takes an object for what is asked about, and a Namespace for what it says of one that is yet to be made.
func (g *gathering) add(content map[string]any, at manifest.Place, live bool) {
	u := unstructured.Unstructured{Object: content}
	if u.GetKind() == "Namespace" && u.GetAPIVersion() == "v1" {
		g.labels[u.GetName()] = u.GetLabels()
		return
	}
	if own := u.GetNamespace(); g.explicit && own != "" && own != g.namespace && !live {
		g.fail(at, fmt.Errorf("the object's namespace %q is not %q, which was given with --namespace", own, g.namespace))
		return
	}
	origin := originOf(at)
	if live {
		origin = Origin{}
	}
	subjects, err := subjectsOf(content, origin, g.table, g.namespace, live)
	if err != nil {
		g.fail(at, err)
	}
	g.subjects = append(g.subjects, subjects...)
}

func (g *gathering) fail(at manifest.Place, err error) {
	g.broken = append(g.broken, &manifest.Error{Place: at, Err: err})
}

func (g *gathering) namespaces() []string {
	var all []string
	for _, s := range g.subjects {
		all = append(all, s.namespace)
	}
	return all
}
