package prefilter

import (
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
)

// An API server ends an expression that costs more than 1,000,000 units (k8s.io/apiserver/pkg/apis/cel, PerCallLimit),
// and refuses the request then where the failure policy is Fail. These limits keep the worst pod within three million
// bytes, which is all that it reads of a request, some 15 % below that: twice images, once texts, and what it costs to
// go through lists. A pod beyond one of them matches. Lengths are in characters.
const (
	// budget is what the images of a pod may cost, in units: matching costs a unit for ten characters of the image times
	// four of the regular expressions (github.com/google/cel-go/interpreter, runtimecost.go).
	budget = 175_000

	// maxVolumes, maxContainers and maxTexts bound the volumes, the containers of all kinds, and the commands, arguments
	// and variables of these.
	maxVolumes    = 512
	maxContainers = 256
	maxTexts      = 2048

	// maxImage bounds an image. A longer one may have a path that is too long to be a reference's.
	maxImage = 255

	// maxURIs bounds the texts that hold "://", together.
	maxURIs = 65_536

	uriMark = "://"
)

// schemes matches texts that name an image by a URI.
var schemes = func() *regexp.Regexp {
	quoted := make([]string, len(images.Schemes))
	for i, s := range images.Schemes {
		quoted[i] = regexp.QuoteMeta(s)
	}
	return regexp.MustCompile(`(?i)(?:` + strings.Join(quoted, "|") + `)` + uriMark)
}()

// tensOfImages is how many tens of characters the images of a pod may have together, each rounded up.
func (f Filter) tensOfImages() int {
	units := func(expression string) int { return (len(expression) + 3) / 4 }
	return budget / (units(grammar) + units(f.rx.String()))
}

// Expression is the filter in CEL, for a match condition of a webhook for pods. It is true where the pod as it is to be, or
// as it was, has an image or a volume that may be governed, and where the pod as it is to be has a command, an argument
// or a variable that names an image by a URI. Updates that leave the spec as it was never match.
//
// It is made of what API servers since Kubernetes 1.31 know. That of 1.32 plans an expression, and compiles its regular
// expressions, whenever it evaluates it, which takes as long as all the rest: it is short for that reason too.
func (f Filter) Expression() string {
	var b strings.Builder
	if err := expression.Execute(&b, expressionValues{
		Driver: v1alpha1.CSIDriverName, MaxVolumes: maxVolumes, MaxContainers: maxContainers, MaxTexts: maxTexts,
		MaxImage: maxImage, MaxURIs: maxURIs, URIMark: uriMark, Schemes: schemes.String(),
		Grammar: grammar, Images: f.images(), Tens: f.tens(),
	}); err != nil {
		panic(fmt.Sprintf("prefilter: %v", err)) // The template is constant, and writing to memory does not fail.
	}
	return b.String()
}

func (f Filter) images() string {
	if f.rx == nil {
		return ""
	}
	return f.rx.String()
}

func (f Filter) tens() int {
	if f.rx == nil {
		return 0
	}
	return f.tensOfImages()
}

type expressionValues struct {
	Driver                                                 string
	MaxVolumes, MaxContainers, MaxTexts, MaxImage, MaxURIs int
	URIMark, Schemes, Grammar, Images                      string
	Tens                                                   int
}

// expression: lists of one element name what is used more than once. A list of a typed object that is empty is missing or,
// of containers, null.
var expression = template.Must(template.New("").Parse(`
{{- define "containers"}}((has({{.}}.containers) && {{.}}.containers != null ? {{.}}.containers : []) + {{.}}.?initContainers.orValue([]) + {{.}}.?ephemeralContainers.orValue([])){{end -}}
(request.operation != 'UPDATE' || object.spec != oldObject.spec) && (
  (request.operation == 'UPDATE' ? [object.spec, oldObject.spec] : [object.spec]).exists(s,
    size(s.?volumes.orValue([])) > {{.MaxVolumes}}
    || s.?volumes.orValue([]).exists(v, has(v.csi) && v.csi.driver == '{{.Driver}}')
{{- if .Images}}
    || [{{template "containers" "s"}}].exists(cs, size(cs) > {{.MaxContainers}}
      || [cs.filter(c, has(c.image)).map(c, c.image)
          + s.?volumes.orValue([]).filter(v, has(v.image) && has(v.image.reference)).map(v, v.image.reference)].exists(is,
        is.map(i, size(i) / 10 + 1).sum() > {{.Tens}}
        || is.exists(i, size(i) > {{.MaxImage}}
          || !i.matches(r'{{.Grammar}}')
          || i.matches(r'{{.Images}}'))))
{{- end}})
{{- if .Images}}
  || [{{template "containers" "object.spec"}}].exists(cs,
    cs.map(c, size(c.?command.orValue([])) + size(c.?args.orValue([])) + size(c.?env.orValue([]))).sum() > {{.MaxTexts}}
    || [cs.map(c, (c.?command.orValue([]) + c.?args.orValue([])).filter(t, t.contains('{{.URIMark}}'))
          + c.?env.orValue([]).filter(e, has(e.value) && e.value.contains('{{.URIMark}}')).map(e, e.value))].exists(uris,
      uris.map(us, us.map(u, size(u)).sum()).sum() > {{.MaxURIs}}
      || uris.exists(us, us.exists(u, u.matches(r'{{.Schemes}}')))))
{{- end}})`))
