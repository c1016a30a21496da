package plugin

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/cli-runtime/pkg/resource"

	"modelrights.dev/modelrights/internal/plugin/manifest"
	"modelrights.dev/modelrights/internal/workloads"
)

const imagesExample = `  # Every image that a manifest names, with the fields that name it
  kubectl modelrights images -f deployment.yaml

  # What a Helm chart or a kustomization would run
  helm template ./chart | kubectl modelrights images -f -
  kubectl modelrights images -k ./overlays/production

  # All manifests of a directory, with normalised references, files and documents
  kubectl modelrights images -f ./manifests -R -o wide

  # Each image once, in normal form
  kubectl modelrights images -f ./manifests -R -o name

  # In CI: fail if a manifest still holds a placeholder for an image
  kubectl modelrights images -f ./manifests -R --fail-on unresolved`

const imagesLong = `List every image that manifests name: in containers, init containers, ephemeral containers and image volumes, wherever
a pod or its template stands in an object of any kind, in fields of well-known custom resources, and in arguments,
commands and environment variables that name a model by its URI. No cluster is contacted.

The confidence says how sure that is:

  declared    the field holds an image
  inferred    the string names an image by its URI, such as oci://, in an argument or a variable
  unresolved  the reference holds a placeholder or cannot be parsed, so that nobody can tell what will be run

Exit status: 0 if everything was read; 1 if --fail-on names what was found; 2 if something could not be read. Documents
that can be read are listed in any case.`

// imagesOptions are the flags of the images command.
type imagesOptions struct {
	streams    genericiooptions.IOStreams
	files      *genericclioptions.FileNameFlags
	output     *outputFlags
	confidence []string
	failOn     []string
	tables     []string
	noHeaders  bool
}

func newImagesCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &imagesOptions{
		streams: streams,
		files:   newFileFlags("Files, directories or URLs of the manifests to read; - is standard input."),
		output:  newOutputFlags(formatWide, formatName),
	}
	cmd := &cobra.Command{
		Use:                   "images (-f FILENAME | -k DIRECTORY)",
		DisableFlagsInUseLine: true,
		Short:                 "List the images that manifests name, offline",
		Long:                  imagesLong,
		Example:               imagesExample,
		Args:                  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(cmd); err != nil {
				return err
			}
			return o.run(cmd)
		},
	}
	o.files.AddFlags(cmd.Flags())
	o.output.addTo(cmd)
	stringsFlag(cmd.Flags(), &o.confidence, "confidence", "List only references of this confidence.", confidences)
	stringsFlag(cmd.Flags(), &o.failOn, "fail-on", "Exit with status 1 if there are references of this confidence, listed or not.", confidences)
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "Print no line of column headings.")
	addTableFlag(cmd, &o.tables)
	return cmd
}

// newFileFlags are the flags by which commands name manifests, as kubectl has them.
func newFileFlags(usage string) *genericclioptions.FileNameFlags {
	recursive, kustomize := false, ""
	return &genericclioptions.FileNameFlags{Usage: usage, Filenames: &[]string{}, Recursive: &recursive, Kustomize: &kustomize}
}

func (o *imagesOptions) validate(cmd *cobra.Command) error {
	if err := validateFiles(cmd, o.files.ToOptions(), true); err != nil {
		return err
	}
	for flag, values := range map[string][]string{"confidence": o.confidence, "fail-on": o.failOn} {
		for _, v := range values {
			if !slices.Contains(confidences, v) {
				return usageErrorf(cmd, "--%s=%s: it must be one of %s", flag, v, strings.Join(confidences, ", "))
			}
		}
	}
	return o.output.validate(cmd)
}

// validateFiles holds the flags that name manifests to kubectl's rules.
func validateFiles(cmd *cobra.Command, files resource.FilenameOptions, required bool) error {
	switch {
	case len(files.Filenames) > 0 && files.Kustomize != "":
		return usageErrorf(cmd, "only one of -f and -k can be given")
	case files.Kustomize != "" && files.Recursive:
		return usageErrorf(cmd, "-R cannot be used with -k")
	case required && len(files.Filenames) == 0 && files.Kustomize == "":
		return usageErrorf(cmd, "must specify one of -f and -k")
	}
	stdin := slices.DeleteFunc(slices.Clone(files.Filenames), func(name string) bool { return name != "-" })
	if len(stdin) > 1 {
		return usageErrorf(cmd, "standard input can be read once: -f - is given %d times", len(stdin))
	}
	return nil
}

func (o *imagesOptions) run(cmd *cobra.Command) error {
	table, err := readTable(o.tables)
	if err != nil {
		return err
	}
	objects, broken := manifest.Reader{Stdin: o.streams.In}.Read(cmd.Context(), o.files.ToOptions())
	list := &ImageReferenceList{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: "ImageReferenceList"},
		Items:    []ImageReference{},
	}
	failing := 0
	for _, object := range objects {
		scanned := workloads.Scan(object.Content, table)
		if scanned.Truncated {
			broken = append(broken, &manifest.Error{Place: object.Place, Err: errTooLarge})
		}
		for _, found := range scanned.Found {
			if slices.Contains(o.failOn, string(found.Confidence)) {
				failing++
			}
			if len(o.confidence) == 0 || slices.Contains(o.confidence, string(found.Confidence)) {
				list.Items = append(list.Items, imageReference(object, found))
			}
		}
	}
	list.Errors = readErrors(broken)
	if err := o.print(list); err != nil {
		return err
	}
	if err := joinErrors(broken); err != nil {
		return err
	}
	if failing > 0 {
		return findings{fmt.Sprintf("%s %s (--fail-on)", references(failing), strings.Join(o.failOn, " or "))}
	}
	return nil
}

// errTooLarge says that an object exceeds what is looked at.
var errTooLarge = fmt.Errorf("is deeper or larger than what is looked at (%d levels, %d values, %d images): not all of its images are listed",
	workloads.MaxDepth, workloads.MaxNodes, workloads.MaxFound)

func imageReference(object manifest.Object, found workloads.Found) ImageReference {
	return ImageReference{
		Reference:  found.Image,
		Normalized: found.Normalized,
		Confidence: string(found.Confidence),
		Path:       found.Path,
		Object:     objectReference(object.Content),
		Origin:     originOf(object.Place),
	}
}

func objectReference(content map[string]any) ObjectReference {
	u := unstructured.Unstructured{Object: content}
	return ObjectReference{APIVersion: u.GetAPIVersion(), Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: nameOrPrefix(&u)}
}

// nameOrPrefix is an object's name, or that which the API server is to complete.
func nameOrPrefix(u *unstructured.Unstructured) string {
	if name := u.GetName(); name != "" {
		return name
	}
	if prefix := u.GetGenerateName(); prefix != "" {
		return prefix + "*"
	}
	return ""
}

func joinErrors(broken []*manifest.Error) error {
	errs := make([]error, len(broken))
	for i, e := range broken {
		errs[i] = e
	}
	return errors.Join(errs...)
}

func readErrors(broken []*manifest.Error) []ReadError {
	var errs []ReadError
	for _, e := range broken {
		errs = append(errs, ReadError{Origin: originOf(e.Place), Message: e.Err.Error()})
	}
	return errs
}

func originOf(p manifest.Place) Origin {
	return Origin{File: p.File, Document: p.Document, Line: p.Line, ListItem: p.Item}
}

func (o *imagesOptions) print(list *ImageReferenceList) error {
	switch o.output.format {
	case formatHuman, formatWide:
		if len(list.Items) == 0 {
			if len(list.Errors) == 0 {
				fmt.Fprintln(o.streams.ErrOut, "No images found.")
			}
			return nil
		}
		return o.printTable(list)
	case formatName:
		printed := map[string]bool{}
		for _, item := range list.Items {
			name := item.Normalized
			if name == "" {
				name = item.Reference
			}
			if !printed[name] {
				printed[name] = true
				fmt.Fprintln(o.streams.Out, visible(name))
			}
		}
		return nil
	default:
		return o.output.print(o.streams.Out, list)
	}
}

func (o *imagesOptions) printTable(list *ImageReferenceList) error {
	w := printers.GetNewTabWriter(o.streams.Out)
	wide := o.output.format == formatWide
	headings := []string{"NAMESPACE", "OBJECT", "PATH", "CONFIDENCE", "REFERENCE"}
	if wide {
		headings = append(headings, "NORMALIZED", "FILE", "DOCUMENT")
	}
	if !o.noHeaders {
		printRow(w, headings)
	}
	for _, item := range list.Items {
		row := []string{item.Object.Namespace, item.Object.String(), item.Path, item.Confidence, item.Reference}
		if wide {
			row = append(row, item.Normalized, item.File, strconv.Itoa(item.Document))
		}
		printRow(w, row)
	}
	return w.Flush()
}

// printRow writes the cells of a row of a table.
func printRow(w io.Writer, cells []string) {
	for i, cell := range cells {
		if cell == "" {
			cell = "<none>"
		}
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, visible(cell))
	}
	fmt.Fprintln(w)
}
