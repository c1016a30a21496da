package seats

// ForgetNodes is the Change for nodes that do not exist any more. They were kept in use for confined pods that might still come to them;
// from now on they are not, and who takes a seat is not confined to them. Nodes with holders on them stay in use.
type ForgetNodes struct{ Nodes []string }

func (c ForgetNodes) apply(l *Ledger) Result {
	r := Result{}
	for _, name := range c.Nodes {
		if i := l.findNode(name); i >= 0 && l.nodes[i].kept {
			l.nodes[i].kept, l.freed, r.Changed = false, true, true
		}
	}
	return r
}
