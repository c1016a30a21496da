package workloads

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// element is one step of a path: a field, or the index in a list.
type element struct {
	key   string
	index int
	list  bool
}

// formatPath writes a path as kubectl and the API server do in messages: a.b[0]["c.d"].
func formatPath(path []element) string {
	var b strings.Builder
	for _, e := range path {
		switch {
		case b.Len() > MaxPath:
			return b.String()
		case e.list:
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(e.index))
			b.WriteByte(']')
		case isPlain(e.key):
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(e.key)
		default:
			b.WriteByte('[')
			b.WriteString(strconv.Quote(clip(e.key, MaxPath)))
			b.WriteByte(']')
		}
	}
	return b.String()
}

func isPlain(key string) bool {
	if key == "" || len(key) >= MaxPath {
		return false
	}
	for _, c := range []byte(key) {
		if !isPlainByte(c) {
			return false
		}
	}
	return true
}

func isPlainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// tokenKind is what a step of a pattern stands for.
type tokenKind int

const (
	literal tokenKind = iota // this field
	anyKey                   // * any field
	anyItem                  // [] any item of a list
	anyMany                  // ** any steps, also none
)

type token struct {
	kind tokenKind
	key  string
}

func (t token) matches(e element) bool {
	switch t.kind {
	case literal:
		return !e.list && e.key == t.key
	case anyKey:
		return !e.list
	case anyItem:
		return e.list
	default:
		return true
	}
}

// maxTokens bounds the length of a pattern, in steps.
const maxTokens = 32

// parsePattern reads a path of the table: fields joined by dots, [] for every item of a list, * for every field of a map,
// ** for any steps, also none, and ["a.b"] for a field whose name holds other characters than letters, digits, - and _.
func parsePattern(pattern string) ([]token, error) {
	var tokens []token
	rest := pattern
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "[]"):
			tokens, rest = append(tokens, token{kind: anyItem}), rest[2:]
		case strings.HasPrefix(rest, `["`):
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil || !strings.HasPrefix(rest[1+len(quoted):], "]") {
				return nil, fmt.Errorf(`path %q: a field in brackets is written ["NAME"]`, pattern)
			}
			key, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("path %q: %w", pattern, err)
			}
			tokens, rest = append(tokens, token{key: key}), rest[len(quoted)+2:]
		default:
			if len(tokens) > 0 {
				if !strings.HasPrefix(rest, ".") {
					return nil, fmt.Errorf("path %q: steps are joined by dots", pattern)
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			step := rest[:end]
			rest = rest[end:]
			switch {
			case step == "*":
				tokens = append(tokens, token{kind: anyKey})
			case step == "**":
				tokens = append(tokens, token{kind: anyMany})
			case isPlain(step):
				tokens = append(tokens, token{key: step})
			default:
				return nil, fmt.Errorf(`path %q: step %q is neither a field of letters, digits, - and _, nor *, ** or ["NAME"]`, pattern, step)
			}
		}
	}
	return tokens, checkTokens(pattern, tokens)
}

func checkTokens(pattern string, tokens []token) error {
	many := 0
	for _, t := range tokens {
		if t.kind == anyMany {
			many++
		}
	}
	switch {
	case len(tokens) == 0:
		return errors.New("a path is empty")
	case len(tokens) > maxTokens:
		return fmt.Errorf("path %q has more than %d steps", pattern, maxTokens)
	case many > 2:
		return fmt.Errorf("path %q has more than two steps **", pattern)
	case tokens[len(tokens)-1].kind == anyMany:
		return fmt.Errorf("path %q ends in **", pattern)
	}
	return nil
}

// state is how much of a rule's pattern the path so far has matched.
type state struct {
	rule    *rule
	matched int
}

// states are the rules that a path may still match.
type states []state

// next is what is left of them after one more step.
func (s states) next(e element) states {
	var after states
	add := func(n state) {
		for _, known := range after {
			if known == n {
				return
			}
		}
		after = append(after, n)
	}
	for _, st := range s {
		tokens := st.rule.pattern
		for i := st.matched; i < len(tokens); i++ {
			if tokens[i].kind == anyMany {
				add(state{st.rule, i})
				continue // no step at all
			}
			if tokens[i].matches(e) {
				add(state{st.rule, i + 1})
			}
			break
		}
	}
	return after
}

// accepted is the first rule that the path matches as a whole; nil where there is none.
func (s states) accepted() *rule {
	for _, st := range s {
		if st.matched == len(st.rule.pattern) && st.rule.holds != anAccount {
			return st.rule
		}
	}
	return nil
}
