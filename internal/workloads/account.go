package workloads

import (
	"fmt"
	"slices"
	"strings"
)

// part is a piece of a service account's name: a text, or the field of the object that holds it.
type part struct {
	text string
	path []token
}

// parseParts reads a text with fields of the object in braces, for example {metadata.name}-runner.
func parseParts(text string) ([]part, error) {
	var parts []part
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if before != "" {
			parts = append(parts, part{text: before})
		}
		if !found {
			break
		}
		path, next, closed := strings.Cut(after, "}")
		tokens, err := parsePattern(path)
		switch {
		case !closed:
			return nil, fmt.Errorf("%q has a brace that is not closed", text)
		case err != nil:
			return nil, fmt.Errorf("%q: %w", text, err)
		case !isLiteral(tokens):
			return nil, fmt.Errorf("%q: path %q must name one field, without *, ** and []", text, path)
		}
		parts, rest = append(parts, part{path: tokens}), next
	}
	return parts, nil
}

func isLiteral(tokens []token) bool {
	return !slices.ContainsFunc(tokens, func(t token) bool { return t.kind != literal })
}

// fill puts a name together; it is empty where a field of it is.
func fill(parts []part, o map[string]any) string {
	var b strings.Builder
	for _, p := range parts {
		text := p.text
		if text == "" {
			text = field(o, p.path)
		}
		if text == "" {
			return ""
		}
		b.WriteString(text)
	}
	return b.String()
}

// field is the string at a path of literal steps; empty where there is none.
func field(o map[string]any, path []token) string {
	var v any = o
	for _, step := range path {
		m, _ := v.(map[string]any)
		v = m[step.key]
	}
	s, _ := v.(string)
	return clip(s, MaxPath)
}
