package prefilter

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"

	"modelrights.dev/modelrights/internal/images"
)

const (
	// maxAlternatives bounds the path prefixes and hosts of a filter.
	maxAlternatives = 64

	// maxLength bounds the regular expression of governed images, in characters: at 0.25 units of cost each, for every ten
	// characters of an image, it leaves room for some twenty images of ordinary length. See budget.
	maxLength = 2048

	dockerHub = "docker.io"
	library   = "library"
)

// prefixes are what a filter is made of: paths, as a tree of their components, and hosts.
type prefixes struct {
	root       *node
	hosts      map[string]bool // governed as a whole
	everything bool
	coarse     bool
}

// node is a component of a path. One without children, but the root, is the end of a prefix.
type node struct {
	name   string
	parent *node
	depth  int
	next   map[string]*node
	hosts  map[string]bool // of the prefixes below, at depth 1 alone
	ends   int             // children that are ends
	index  int             // in the queue; -1: not in it
}

func newNode() *node { return &node{next: map[string]*node{}, index: -1} }

func (n *node) end() bool { return len(n.next) == 0 && n.parent != nil }

// split takes a pattern apart into the host and the path's literal components, up to the first wildcard. Docker Hub's
// library/ is left out, since references may leave it out.
func split(p images.Pattern) (host string, path []string) {
	host, path = p[0], p[1:]
	if i := slices.IndexFunc(path, func(c string) bool { return c == "*" || c == "**" }); i >= 0 {
		path = path[:i]
	}
	if host == dockerHub && len(path) > 0 && path[0] == library {
		path = path[1:]
	}
	return host, path
}

func (s *prefixes) add(p images.Pattern) {
	host, path := split(p)
	if len(path) == 0 {
		s.hosts[host] = true
		return
	}
	n := s.root
	for _, component := range path {
		next := n.next[component]
		known := next != nil
		if !known {
			next = &node{name: component, parent: n, depth: n.depth + 1, next: map[string]*node{}, index: -1}
			n.next[component] = next
		}
		if next.depth == 1 {
			if next.hosts == nil {
				next.hosts = map[string]bool{}
			}
			next.hosts[host] = true
		}
		if known && next.end() {
			return // It covers this path already.
		}
		n = next
	}
	clear(n.next)
}

// absorb leaves out the paths of which every host is governed as a whole.
func (s *prefixes) absorb() {
	maps.DeleteFunc(s.root.next, func(_ string, top *node) bool {
		for host := range top.hosts {
			if !s.hosts[host] {
				return false
			}
		}
		return true
	})
}

func (s *prefixes) alternatives() int { return len(s.hosts) + countEnds(s.root) }

func countEnds(n *node) int {
	if n.end() {
		return 1
	}
	count := 0
	for _, next := range n.next {
		count += countEnds(next)
	}
	return count
}

// collapse makes the set small enough: first it takes directories whole, those with the most prefixes in them first, of
// several the deeper and then the first by name; when only first components are left, it takes hosts whole, those with
// the most of them first; and then everything.
func (s *prefixes) collapse() {
	directories := &queue{}
	var enqueue func(*node) int // returns the prefixes in it
	enqueue = func(n *node) int {
		if n.end() {
			return 1
		}
		count := 0
		for _, next := range n.next {
			count += enqueue(next)
			if next.end() {
				n.ends++
			}
		}
		if n.parent != nil && n.ends > 0 {
			heap.Push(directories, n)
		}
		return count
	}
	count := enqueue(s.root)
	fits := func() bool {
		return len(s.hosts)+count <= maxAlternatives && len(s.expression()) <= maxLength
	}
	for !fits() {
		s.coarse = true
		if directories.Len() > 0 {
			n := heap.Pop(directories).(*node)
			count -= countEnds(n) - 1
			directories.forget(n)
			clear(n.next)
			if above := n.parent; above.parent != nil {
				above.ends++
				directories.put(above)
			}
			continue
		}
		host, most := "", 0
		tops := map[string]int{}
		for _, top := range s.root.next {
			for h := range top.hosts {
				tops[h]++
			}
		}
		for h, n := range tops {
			if !s.hosts[h] && (n > most || n == most && h < host) {
				host, most = h, n
			}
		}
		if host == "" || len(s.hosts) == maxAlternatives {
			s.everything = true
			return
		}
		s.hosts[host] = true
		s.absorb()
		count = countEnds(s.root)
	}
}

// covers says whether the set holds the pattern's prefix or one above it.
func (s *prefixes) covers(p images.Pattern) bool {
	host, path := split(p)
	if s.everything || s.hosts[host] {
		return true
	}
	n := s.root
	for _, component := range path {
		if n = n.next[component]; n == nil {
			return false
		}
		if n.end() {
			return true
		}
	}
	return false
}

// queue is a heap of directories.
type queue []*node

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if a.ends != b.ends {
		return a.ends > b.ends
	}
	if a.depth != b.depth {
		return a.depth > b.depth
	}
	return slices.CompareFunc(a.path(), b.path(), cmp.Compare[string]) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	n := x.(*node)
	n.index = len(*q)
	*q = append(*q, n)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	n.index = -1
	*q = (*q)[:last]
	return n
}

// put adds a directory, or moves it to where it belongs now.
func (q *queue) put(n *node) {
	if n.index >= 0 {
		heap.Fix(q, n.index)
	} else {
		heap.Push(q, n)
	}
}

// forget removes all that is below a directory.
func (q *queue) forget(n *node) {
	for _, next := range n.next {
		if next.index >= 0 {
			heap.Remove(q, next.index)
		}
		q.forget(next)
	}
}

func (n *node) path() []string {
	path := make([]string, n.depth)
	for ; n.parent != nil; n = n.parent {
		path[n.depth-1] = n.name
	}
	return path
}

// sorted are the children by name.
func (n *node) sorted() []*node {
	return slices.SortedFunc(maps.Values(n.next), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}
