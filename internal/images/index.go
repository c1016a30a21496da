package images

import (
	"maps"
	"strings"
)

// Index finds the values whose pattern covers a repository, in time proportional to the repository's length and not to
// the number of patterns. It is immutable: With and Without return a new one that shares what did not change.
type Index[V comparable] struct {
	root *node[V]
}

type node[V comparable] struct {
	next   map[string]*node[V]
	values []V
}

// NewIndex returns an index of what fill adds, at a cost proportional to that: With copies as it goes, NewIndex does not.
func NewIndex[V comparable](fill func(add func(Pattern, V))) Index[V] {
	var root *node[V]
	fill(func(p Pattern, v V) {
		if root == nil {
			root = &node[V]{next: map[string]*node[V]{}}
		}
		n := root
		for _, component := range p {
			next := n.next[component]
			if next == nil {
				next = &node[V]{next: map[string]*node[V]{}}
				n.next[component] = next
			}
			n = next
		}
		n.values = append(n.values, v)
	})
	return Index[V]{root: root}
}

// With returns an index that holds the value under the pattern too.
func (x Index[V]) With(p Pattern, v V) Index[V] {
	return Index[V]{root: x.root.with(p, v)}
}

// Without returns an index that no longer holds the value under the pattern.
func (x Index[V]) Without(p Pattern, v V) Index[V] {
	return Index[V]{root: x.root.without(p, v)}
}

// Empty says whether the index holds nothing.
func (x Index[V]) Empty() bool { return x.root == nil }

// Lookup appends the values whose pattern covers the normalised repository to found and returns it. They come in no
// order that callers may rely on, and one may come several times where its pattern covers the repository in several
// ways.
func (x Index[V]) Lookup(repository string, found []V) []V {
	return x.root.lookup(repository, found)
}

func (n *node[V]) with(p Pattern, v V) *node[V] {
	c := n.clone()
	if len(p) == 0 {
		c.values = append(c.values[:len(c.values):len(c.values)], v)
		return c
	}
	c.next[p[0]] = c.next[p[0]].with(p[1:], v)
	return c
}

func (n *node[V]) without(p Pattern, v V) *node[V] {
	if n == nil {
		return nil
	}
	c := n.clone()
	if len(p) == 0 {
		c.values = nil
		for _, kept := range n.values {
			if kept != v {
				c.values = append(c.values, kept)
			}
		}
	} else if next := c.next[p[0]].without(p[1:], v); next != nil {
		c.next[p[0]] = next
	} else {
		delete(c.next, p[0])
	}
	if len(c.values) == 0 && len(c.next) == 0 {
		return nil
	}
	return c
}

func (n *node[V]) clone() *node[V] {
	c := &node[V]{next: map[string]*node[V]{}}
	if n != nil {
		c.values = n.values
		maps.Copy(c.next, n.next)
	}
	return c
}

func (n *node[V]) lookup(rest string, found []V) []V {
	if n == nil {
		return found
	}
	if many := n.next[anyMany]; many != nil {
		found = many.lookup(rest, found)
		for tail := rest; tail != ""; {
			_, tail, _ = strings.Cut(tail, "/")
			found = many.lookup(tail, found)
		}
	}
	if rest == "" {
		return append(found, n.values...)
	}
	component, tail, _ := strings.Cut(rest, "/")
	found = n.next[component].lookup(tail, found)
	return n.next[anyOne].lookup(tail, found)
}
