package plugin

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// The formats that are ours; json, yaml, jsonpath and templates are kubectl's own.
const (
	formatHuman = ""
	formatWide  = "wide"
	formatName  = "name"
)

// outputFlags say in which form a command prints.
type outputFlags struct {
	format string
	// own are the formats that the command prints itself, besides the default.
	own       []string
	structure *genericclioptions.JSONYamlPrintFlags
	template  *genericclioptions.KubeTemplatePrintFlags
}

func newOutputFlags(own ...string) *outputFlags {
	return &outputFlags{
		own:       own,
		structure: genericclioptions.NewJSONYamlPrintFlags(),
		template:  genericclioptions.NewKubeTemplatePrintFlags(),
	}
}

func (o *outputFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "Output format. One of: ("+strings.Join(o.allowed(), ", ")+").")
	o.template.AddFlags(cmd)
}

func (o *outputFlags) allowed() []string {
	return slices.Concat(o.own, o.structure.AllowedFormats(), o.template.AllowedFormats())
}

// validate says whether the format is known, before anything is read.
func (o *outputFlags) validate(cmd *cobra.Command) error {
	if o.format == formatHuman && *o.template.TemplateArgument != "" {
		o.format = "go-template"
	}
	if o.isOwn() {
		return nil
	}
	if _, err := o.printer(); err != nil {
		if genericclioptions.IsNoCompatiblePrinterError(err) {
			return usageErrorf(cmd, "unknown output format %q: it must be one of %s", o.format, strings.Join(o.allowed(), ", "))
		}
		return usageErrorf(cmd, "-o %s: %w", o.format, err)
	}
	return nil
}

// isOwn says whether the command prints the format itself.
func (o *outputFlags) isOwn() bool {
	return o.format == formatHuman || slices.Contains(o.own, o.format)
}

// print writes an object of ours, a pointer to a struct with JSON names, in one of kubectl's formats.
func (o *outputFlags) print(w io.Writer, object any) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("printing as %s: %w", o.format, err)
	}
	printer, err := o.printer()
	if err != nil {
		return err
	}
	if err := printer.PrintObj(&unstructured.Unstructured{Object: content}, w); err != nil {
		return fmt.Errorf("printing as %s: %w", o.format, err)
	}
	return nil
}

type objectPrinter interface {
	PrintObj(runtime.Object, io.Writer) error
}

func (o *outputFlags) printer() (objectPrinter, error) {
	if p, err := o.structure.ToPrinter(o.format); !genericclioptions.IsNoCompatiblePrinterError(err) {
		return p, err
	}
	return o.template.ToPrinter(o.format)
}
