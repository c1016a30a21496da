package seats

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// What a ledger may grow to. maxBytes leaves room for metadata below the 1.5 MiB that etcd takes in one request.
const (
	maxGrants  = 4096
	maxNodes   = 5000
	maxAmounts = 4096
	maxBytes   = 1_500_000
	// lineBytes is what a holder takes at most: its line, quotes and a comma.
	lineBytes = maxLine + 3
)

// grantEntry is a grant in the ledger's table.
type grantEntry struct {
	grant  Grant
	limits corev1.ResourceList // never changed in place
	bounds bounds
	closed usage
	inUse  tally // of all its holders
}

// kept reports whether the entry still says anything.
func (g *grantEntry) kept() bool { return g.inUse.pods > 0 || !g.closed.empty() }

func (g *grantEntry) bytes() int {
	return 100 + len(g.grant.Namespace) + len(g.grant.Name) + len(g.grant.UID) + listBytes(g.limits) + 90*len(g.closed.of)
}

// nodeEntry is a node in the ledger's table.
type nodeEntry struct {
	name  string
	bound int32 // holders on it
	// kept is true for a node with no holder on it to which a confined one may still come, until it is forgotten.
	kept bool
}

func (n *nodeEntry) inUse() bool { return n.bound > 0 || n.kept }

// amountEntry is what pods count for.
type amountEntry struct {
	amount  amount
	list    corev1.ResourceList // the same, never changed in place
	holders int32
}

func listBytes(list corev1.ResourceList) int {
	n := 20
	for name := range list {
		n += len(name) + 26
	}
	return n
}

func (l *Ledger) findGrant(g Grant) int {
	return slices.IndexFunc(l.grants, func(e grantEntry) bool { return e.grant == g && e.kept() })
}

// grantFor is the place of a grant in the table, in which it is put if need be; -1 where the table is full.
func (l *Ledger) grantFor(g Grant) int32 {
	if i := l.findGrant(g); i >= 0 {
		return int32(i)
	}
	entry := grantEntry{grant: g, bounds: boundsOf(nil)}
	i := slices.IndexFunc(l.grants, func(e grantEntry) bool { return !e.kept() })
	if i < 0 && len(l.grants) >= maxGrants {
		i = l.leastUsed()
	}
	switch {
	case i >= 0:
		l.grants[i] = entry
	case len(l.grants) >= maxGrants:
		return -1
	default:
		i = len(l.grants)
		l.grants = append(l.grants, entry)
	}
	return int32(i)
}

// leastUsed is the grant without holders whose pods have used least; -1 where all have holders. What it had used stays in
// the licence's usage.
func (l *Ledger) leastUsed() int {
	least := -1
	for i := range l.grants {
		if l.grants[i].inUse.pods == 0 && (least < 0 || l.grants[i].closed.podSeconds < l.grants[least].closed.podSeconds) {
			least = i
		}
	}
	return least
}

// setGrantLimits takes over the limits of a grant, and reports whether they are others.
func (l *Ledger) setGrantLimits(i int32, limits corev1.ResourceList) bool {
	g := &l.grants[i]
	if len(limits) == len(g.limits) && (len(limits) == 0 || equality.Semantic.DeepEqual(limits, g.limits)) {
		return false
	}
	g.limits = limits.DeepCopy()
	g.bounds = boundsOf(g.limits)
	l.freed = true
	return true
}

// amountFor is the place of an amount in the table; -1 where the table is full.
func (l *Ledger) amountFor(a amount) int32 {
	hole := -1
	for i := range l.amounts {
		if l.amounts[i].holders == 0 {
			hole = i
		} else if slices.Equal(l.amounts[i].amount, a) {
			return int32(i)
		}
	}
	entry := amountEntry{amount: a, list: a.list()}
	if hole >= 0 {
		l.amounts[hole] = entry
		return int32(hole)
	}
	if len(l.amounts) >= maxAmounts {
		return -1
	}
	l.amounts = append(l.amounts, entry)
	return int32(len(l.amounts) - 1)
}

// findNode is the place of a node that is in use; -1 where it is not.
func (l *Ledger) findNode(name string) int32 {
	return int32(slices.IndexFunc(l.nodes, func(n nodeEntry) bool { return n.name == name && n.inUse() }))
}

// nodeFor is the place of a node in the table; -1 where the table is full.
func (l *Ledger) nodeFor(name string) int32 {
	if i := l.findNode(name); i >= 0 {
		return i
	}
	entry := nodeEntry{name: name}
	if i := slices.IndexFunc(l.nodes, func(n nodeEntry) bool { return !n.inUse() }); i >= 0 {
		l.nodes[i] = entry
		return int32(i)
	}
	if len(l.nodes) >= maxNodes {
		return -1
	}
	l.nodes = append(l.nodes, entry)
	return int32(len(l.nodes) - 1)
}

// full reports whether a holder under a grant and with an amount has no room in the stored object.
func (l *Ledger) full(g Grant, a amount) bool {
	if len(l.holders) >= v1alpha1.MaxSeatHolders {
		return true
	}
	lines, tables := (len(l.holders)+1)*lineBytes, len(l.grants)+len(l.nodes)+len(l.amounts)
	if lines < maxBytes/2 && tables < 500 {
		return false // 500 rows of any table take less than the other half
	}
	entry := grantEntry{grant: g}
	return lines+l.tablesBytes()+entry.bytes()+listBytes(a.list()) > maxBytes
}

// tablesBytes is what tables and limits take in the stored object, at most.
func (l *Ledger) tablesBytes() int {
	n := 2000 + listBytes(l.limits)
	for i := range l.grants {
		n += l.grants[i].bytes()
	}
	for i := range l.nodes {
		n += len(l.nodes[i].name) + 3
	}
	for i := range l.amounts {
		n += listBytes(l.amounts[i].list)
	}
	return n
}

// insert puts a row in its place and counts it. Its grant, amount and node are places in the tables.
func (l *Ledger) insert(h holder) {
	i, _ := l.find(h.pod)
	l.holders = slices.Insert(l.holders, i, h)
	l.count(&l.holders[i], 1)
}

// remove takes a row out.
func (l *Ledger) remove(i int) {
	l.count(&l.holders[i], -1)
	l.holders = slices.Delete(l.holders, i, i+1)
	l.freed = true
}

// count adds a row to the sums, or with -1 takes it from them.
func (l *Ledger) count(h *holder, n int32) {
	a := &l.amounts[h.amount]
	a.holders += n
	l.inUse.add(int64(n), a.amount)
	l.grants[h.grant].inUse.add(int64(n), a.amount)
	if Kind(h.kind) != Regular {
		l.beyond += n
	}
	switch {
	case h.bound():
		node := &l.nodes[h.node]
		node.bound += n
		node.kept = node.bound == 0 && l.confined > 0
	case h.confinement == anywhere:
		l.reserved += n
	default:
		l.confined += n
		if l.confined == 0 {
			for i := range l.nodes {
				l.nodes[i].kept = false
			}
		}
	}
}

// Nodes are the nodes in use, sorted.
func (l *Ledger) Nodes() []string {
	var out []string
	for i := range l.nodes {
		if l.nodes[i].inUse() {
			out = append(out, l.nodes[i].name)
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

// nodesInUse is the number of nodes in use, those reserved for pods that are not bound yet included.
func (l *Ledger) nodesInUse() int64 {
	n := int64(l.reserved)
	for i := range l.nodes {
		if l.nodes[i].inUse() {
			n++
		}
	}
	return n
}

// nodeSet counts the nodes of some holders.
type nodeSet struct {
	bound    map[int32]int32
	reserved int64
	// byGrant is true where the holders are those of one grant: then who is confined to the licence's nodes may come to a
	// node that is new to the grant.
	byGrant bool
}

func (s *nodeSet) inUse() int64 { return int64(len(s.bound)) + s.reserved }

func (s *nodeSet) reserves(h *holder) bool {
	return h.confinement == anywhere || s.byGrant && h.confinement == licenseNodes
}

func (s *nodeSet) add(h *holder) {
	switch {
	case h.bound():
		s.bound[h.node]++
	case s.reserves(h):
		s.reserved++
	}
}

func (s *nodeSet) remove(h *holder) {
	switch {
	case h.bound():
		if s.bound[h.node]--; s.bound[h.node] == 0 {
			delete(s.bound, h.node)
		}
	case s.reserves(h):
		s.reserved--
	}
}

// nodesOf counts the nodes of a grant.
func (l *Ledger) nodesOf(grant int32) *nodeSet {
	s := &nodeSet{bound: map[int32]int32{}, byGrant: true}
	for i := range l.holders {
		if l.holders[i].grant == grant {
			s.add(&l.holders[i])
		}
	}
	return s
}

// names are the nodes that holders of the set are bound to, sorted.
func (l *Ledger) names(s *nodeSet) []string {
	out := make([]string, 0, len(s.bound))
	for i := range s.bound {
		out = append(out, l.nodes[i].name)
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}
