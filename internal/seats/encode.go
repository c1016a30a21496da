package seats

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Encode writes the ledger into the object's spec, and its name where it has none. The same ledger is always encoded
// alike. Tables hold what is still in use, and grants with usage.
func (l *Ledger) Encode(to *v1alpha1.ModelSeats) {
	if to.Name == "" {
		to.Name = l.license
	}
	spec := v1alpha1.ModelSeatsSpec{
		LicenseUID: string(l.licenseUID), LicenseGeneration: l.generation, Limits: l.limits.DeepCopy(), Usage: l.closed.stored(),
		Terms: l.terms.stored(),
	}
	grants := make([]int32, len(l.grants))
	for i := range l.grants {
		if g := &l.grants[i]; g.kept() {
			grants[i] = int32(len(spec.Grants))
			spec.Grants = append(spec.Grants, v1alpha1.SeatGrant{
				Namespace: g.grant.Namespace, Name: g.grant.Name, UID: string(g.grant.UID),
				Limits: g.limits.DeepCopy(), Usage: g.closed.stored(),
			})
		}
	}
	nodes := make([]int32, len(l.nodes))
	for i := range l.nodes {
		if n := &l.nodes[i]; n.inUse() {
			nodes[i] = int32(len(spec.Nodes))
			spec.Nodes = append(spec.Nodes, n.name)
		}
	}
	amounts := make([]int32, len(l.amounts))
	for i := range l.amounts {
		if a := &l.amounts[i]; a.holders > 0 {
			amounts[i] = int32(len(spec.Amounts))
			list := a.amount.list()
			if list == nil {
				list = corev1.ResourceList{} // required
			}
			spec.Amounts = append(spec.Amounts, v1alpha1.SeatAmount{Resources: list})
		}
	}
	if len(l.holders) > 0 {
		spec.Holders = make([]string, len(l.holders))
	}
	var line [maxLine * 2]byte
	for i := range l.holders {
		h := &l.holders[i]
		node := int32(-1)
		if h.bound() {
			node = nodes[h.node]
		}
		spec.Holders[i] = string(appendLine(line[:0], h, grants[h.grant], amounts[h.amount], node))
	}
	to.Spec = spec
}

// Decode reads a ledger. A ledger that this package did not write, or that was changed since, is an error that names what
// cannot be understood; it never panics.
func Decode(from *v1alpha1.ModelSeats) (*Ledger, error) {
	l, err := decode(from)
	if err != nil {
		return nil, fmt.Errorf("seat ledger %s: %w", from.Name, err)
	}
	return l, nil
}

func decode(from *v1alpha1.ModelSeats) (*Ledger, error) {
	spec := &from.Spec
	l := &Ledger{license: from.Name, licenseUID: types.UID(spec.LicenseUID), generation: spec.LicenseGeneration}
	if spec.LicenseGeneration < 0 {
		return nil, fmt.Errorf("spec.licenseGeneration %d is negative", spec.LicenseGeneration)
	}
	if err := checkList(spec.Limits); err != nil {
		return nil, fmt.Errorf("spec.limits: %w", err)
	}
	l.limits = spec.Limits.DeepCopy()
	l.bounds = boundsOf(l.limits)
	var err error
	if l.terms, err = termsFrom(spec.Terms); err != nil {
		return nil, fmt.Errorf("spec.terms: %w", err)
	}
	if l.closed, err = usageFrom(spec.Usage); err != nil {
		return nil, fmt.Errorf("spec.usage: %w", err)
	}
	if err := l.decodeTables(spec); err != nil {
		return nil, err
	}
	if err := l.decodeHolders(spec.Holders); err != nil {
		return nil, err
	}
	l.freed = l.beyond > 0
	return l, nil
}

func (l *Ledger) decodeTables(spec *v1alpha1.ModelSeatsSpec) error {
	if len(spec.Grants) > maxGrants || len(spec.Nodes) > maxNodes || len(spec.Amounts) > maxAmounts ||
		len(spec.Holders) > v1alpha1.MaxSeatHolders {
		return errors.New("there are more items than the kind allows")
	}
	l.grants = make([]grantEntry, len(spec.Grants))
	for i := range spec.Grants {
		g := &spec.Grants[i]
		if err := checkList(g.Limits); err != nil {
			return fmt.Errorf("spec.grants[%d].limits: %w", i, err)
		}
		closed, err := usageFrom(g.Usage)
		if err != nil {
			return fmt.Errorf("spec.grants[%d].usage: %w", i, err)
		}
		l.grants[i] = grantEntry{
			grant:  Grant{Namespace: g.Namespace, Name: g.Name, UID: types.UID(g.UID)},
			limits: g.Limits.DeepCopy(), bounds: boundsOf(g.Limits), closed: closed,
		}
	}
	if i, twice := repeated(l.grants, func(g grantEntry) Grant { return g.grant }); twice {
		return fmt.Errorf("spec.grants[%d] is there twice", i)
	}
	l.nodes = make([]nodeEntry, len(spec.Nodes))
	for i, name := range spec.Nodes {
		l.nodes[i] = nodeEntry{name: name}
	}
	if i, twice := repeated(l.nodes, func(n nodeEntry) string { return n.name }); twice {
		return fmt.Errorf("spec.nodes[%d] is there twice", i)
	}
	l.amounts = make([]amountEntry, len(spec.Amounts))
	for i := range spec.Amounts {
		list := spec.Amounts[i].Resources
		if err := checkList(list); err != nil {
			return fmt.Errorf("spec.amounts[%d]: %w", i, err)
		}
		a := amountOf(list)
		l.amounts[i] = amountEntry{amount: a, list: a.list()}
	}
	return nil
}

func (l *Ledger) decodeHolders(lines []string) error {
	l.holders = make([]holder, len(lines))
	for i, line := range lines {
		h, err := parseLine(line)
		if err != nil {
			return fmt.Errorf("spec.holders[%d] %q: %w", i, line, err)
		}
		if int(h.grant) >= len(l.grants) || int(h.amount) >= len(l.amounts) || int(h.node) >= len(l.nodes) {
			return fmt.Errorf("spec.holders[%d] %q: %w: a place is beyond its table", i, line, errMalformed)
		}
		l.holders[i] = h
	}
	byPod := func(a, b holder) int { return cmp.Compare(a.pod, b.pod) }
	if !slices.IsSortedFunc(l.holders, byPod) {
		slices.SortFunc(l.holders, byPod)
	}
	for i := range l.holders {
		if i > 0 && l.holders[i].pod == l.holders[i-1].pod {
			return fmt.Errorf("spec.holders: %w: pod %s is there twice", errMalformed, l.holders[i].pod)
		}
		l.count(&l.holders[i], 1)
	}
	for i := range l.nodes {
		l.nodes[i].kept = l.nodes[i].bound == 0 && l.confined > 0
	}
	return nil
}

// repeated is the place of the first item whose key another has had before.
func repeated[T any, K comparable](items []T, key func(T) K) (int, bool) {
	if len(items) < 2 {
		return 0, false
	}
	seen := make(map[K]struct{}, len(items))
	for i, item := range items {
		if _, twice := seen[key(item)]; twice {
			return i, true
		}
		seen[key(item)] = struct{}{}
	}
	return 0, false
}

func checkList(list corev1.ResourceList) error {
	for name, q := range list {
		if q.Sign() < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	return nil
}
