package workloads

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/internal/images"
)

// maxManifests bounds the objects that are read from one string.
const maxManifests = 100

// anchor matches what may be the anchor of a YAML node.
var anchor = regexp.MustCompile(`(^|[\s\[\]{},:?-])&[^\s&]`)

// apply looks at a value as the table says, and reports whether that is all there is to it.
func (w *walker) apply(r *rule, v any, t *Template, active states) bool {
	if r.holds == noInterest {
		return true
	}
	switch v := v.(type) {
	case string:
		switch r.holds {
		case anImage:
			return w.imageField(v, images.Declared, t)
		case aURI:
			return w.uris(v, images.Declared, t)
		case aText:
			w.words(v, t)
			return true
		case aManifest:
			if !w.manifests(v, t) {
				w.words(v, t)
			}
			return true
		}
	case map[string]any:
		return r.holds == anImage && w.parts(v, r.parts, images.Declared, t)
	case []any:
		for i, item := range v {
			e := element{index: i, list: true}
			w.at(e, func() {
				if w.enter() && !w.apply(r, item, t, active.next(e)) {
					w.value("", item, t, active.next(e))
				}
			})
		}
		return true
	}
	return false
}

// manifests walks the objects that a string holds as YAML or JSON, and says whether it holds any. What does not parse,
// for example since it is a template, holds none. Nor is YAML parsed that has anchors: a few of them make more of a text
// than memory holds.
func (w *walker) manifests(s string, t *Template) bool {
	w.manifest += len(s)
	if w.manifest > MaxString || w.prefix != "" || anchor.MatchString(s) {
		return false
	}
	var objects []map[string]any
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(s)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(objects) == maxManifests {
			return false
		}
		var o map[string]any
		if err := sigsyaml.Unmarshal(document, &o); err != nil {
			return false
		}
		if len(o) > 0 {
			objects = append(objects, o)
		}
	}
	path := w.path
	w.prefix, w.path = w.here()+": ", nil
	for _, o := range objects {
		w.object(o, "", "", t)
	}
	w.prefix, w.path = "", path
	return len(objects) > 0
}
