package images

import "iter"

// Patterns yields the patterns under which the index holds anything, each once, in no order that callers may rely on.
func (x Index[V]) Patterns() iter.Seq[Pattern] {
	return func(yield func(Pattern) bool) { x.root.patterns(nil, yield) }
}

func (n *node[V]) patterns(above Pattern, yield func(Pattern) bool) bool {
	if n == nil {
		return true
	}
	if len(n.values) > 0 && !yield(append(Pattern(nil), above...)) {
		return false
	}
	for component, next := range n.next {
		if !next.patterns(append(above, component), yield) {
			return false
		}
	}
	return true
}
