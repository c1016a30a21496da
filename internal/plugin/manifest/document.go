package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

const (
	// maxDocuments bounds the documents and items of one file.
	maxDocuments = 100_000
	// maxListDepth bounds Lists in Lists.
	maxListDepth = 8
)

// Parse returns the objects of a file's content, which is YAML or JSON of any number of documents, and what could not be
// read of it. It never panics, whatever the content.
func Parse(file string, content []byte) ([]Object, []*Error) {
	p := &parser{file: file}
	for _, s := range split(content) {
		if p.full() {
			break
		}
		if trimmed := bytes.TrimLeft(s.content, " \t\r\n"); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
			p.json(s)
		} else {
			p.yaml(s)
		}
	}
	return p.objects, p.errs
}

type parser struct {
	file      string
	documents int
	objects   []Object
	errs      []*Error
}

// full stops at what no hand wrote, and says so.
func (p *parser) full() bool {
	if len(p.objects)+len(p.errs) < maxDocuments {
		return false
	}
	p.errs = append(p.errs, &Error{Place: Place{File: p.file}, Err: fmt.Errorf("more than %d documents", maxDocuments)})
	return true
}

func (p *parser) place(line int) Place {
	p.documents++
	return Place{File: p.file, Document: p.documents, Line: line}
}

func (p *parser) fail(place Place, err error) {
	p.errs = append(p.errs, &Error{Place: place, Err: err})
}

func (p *parser) yaml(s section) {
	converted, err := yaml.YAMLToJSON(s.content)
	if err != nil {
		p.fail(p.place(s.line), hint(yamlError(err, s.line), s.content))
		return
	}
	if bytes.Equal(bytes.TrimSpace(converted), []byte("null")) {
		return
	}
	p.value(p.place(s.line), converted)
}

// json reads the values of a section one behind the other. YAML may begin like JSON, and a broken value ends where the
// next one begins a line.
func (p *parser) json(s section) {
	rest, line := s.content, s.line
	for first := true; ; first = false {
		blank := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n"))
		line += bytes.Count(rest[:blank], []byte("\n"))
		if rest = rest[blank:]; len(rest) == 0 || p.full() {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(rest))
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if err == nil {
			p.value(p.place(line), raw)
			end := decoder.InputOffset()
			line += bytes.Count(rest[:end], []byte("\n"))
			rest = rest[end:]
			continue
		}
		if converted, yamlErr := yaml.YAMLToJSON(rest); first && yamlErr == nil {
			p.value(p.place(line), converted)
			return
		}
		p.fail(p.place(line), hint(jsonError(err, rest, line), rest))
		next := nextValue.FindIndex(rest)
		if next == nil {
			return
		}
		line += bytes.Count(rest[:next[0]], []byte("\n"))
		rest = rest[next[0]:]
	}
}

// value takes a document in JSON for an object.
func (p *parser) value(place Place, document []byte) {
	var v any
	if err := utiljson.Unmarshal(document, &v); err != nil {
		p.fail(place, err)
		return
	}
	p.object(place, v, 0)
}

func (p *parser) object(place Place, v any, depth int) {
	content, ok := v.(map[string]any)
	if !ok {
		p.fail(place, fmt.Errorf("is %s, not an object with fields", typeOf(v)))
		return
	}
	items, isList := listItems(content)
	if !isList || depth == maxListDepth {
		p.objects = append(p.objects, Object{Place: place, Content: content})
		return
	}
	for i, item := range items {
		if p.full() {
			return
		}
		inner := place
		if inner.Item != "" {
			inner.Item += "."
		}
		inner.Item += fmt.Sprintf("items[%d]", i)
		if fields, ok := item.(map[string]any); ok {
			inherit(fields, content)
		}
		p.object(inner, item, depth+1)
	}
}

// listItems are the items of a List of any kind: what has items and a kind that ends in List.
func listItems(content map[string]any) ([]any, bool) {
	kind, _ := content["kind"].(string)
	items, ok := content["items"].([]any)
	return items, ok && strings.HasSuffix(kind, "List")
}

// inherit gives an item what a list of one kind says for all of its items.
func inherit(item, list map[string]any) {
	kind, _ := list["kind"].(string)
	if kind = strings.TrimSuffix(kind, "List"); kind == "" || item["kind"] != nil {
		return
	}
	item["kind"] = kind
	if item["apiVersion"] == nil && list["apiVersion"] != nil {
		item["apiVersion"] = list["apiVersion"]
	}
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "empty"
	case []any:
		return "a sequence"
	case string:
		return "a string"
	case bool:
		return "a truth value"
	default:
		return "a number"
	}
}

// nextValue is where an object begins a line, in JSON.
var nextValue = regexp.MustCompile(`\n\{\s*["}]`)

// hint names the usual reason for which manifests cannot be parsed.
func hint(err error, content []byte) error {
	if !bytes.Contains(content, []byte("{{")) {
		return err
	}
	return fmt.Errorf("%w (is it a template? Render it first, for example with helm template)", err)
}

var lineOfError = regexp.MustCompile(`\bline (\d+)`)

// yamlError counts the lines of an error, which are those of the document, from the start of the file.
func yamlError(err error, first int) error {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	return errors.New(lineOfError.ReplaceAllStringFunc(text, func(match string) string {
		n, convErr := strconv.Atoi(strings.TrimPrefix(match, "line "))
		if convErr != nil {
			return match
		}
		return fmt.Sprintf("line %d", n+first-1)
	}))
}

// jsonError says in which line of the file an error is.
func jsonError(err error, content []byte, first int) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset := min(max(syntax.Offset, 0), int64(len(content)))
		return fmt.Errorf("json: line %d: %w", first+bytes.Count(content[:offset], []byte("\n")), err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("json: ends within a value")
	}
	return fmt.Errorf("json: %w", err)
}
