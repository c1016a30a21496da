package seats

import (
	"cmp"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// maxCount bounds what one pod may count for of one resource, so that the sum over a full ledger stays within an int64. As
// bytes it is 256 TiB.
const maxCount = math.MaxInt64 >> 15

// unlimited stands for a limit that is not set.
const unlimited = math.MaxInt64

// count is how much of one resource: thousandths of a core of cpu, and of all else bytes, devices or whatever its unit is.
type count struct {
	name corev1.ResourceName
	n    int64
}

// amount is counts of several resources, sorted by name, without pods and nodes. It is never changed in place once others
// can see it.
type amount []count

// amountOf converts what a pod counts for, rounding up. Negative quantities count as none.
func amountOf(list corev1.ResourceList) amount {
	out := make(amount, 0, len(list))
	for name, q := range list {
		if name == corev1.ResourcePods || name == ResourceNodes {
			continue
		}
		if n := min(ceil(name, q), maxCount); n > 0 {
			out = append(out, count{name, n})
		}
	}
	slices.SortFunc(out, func(a, b count) int { return cmp.Compare(a.name, b.name) })
	return out
}

// ResourceNodes is the key of the number of distinct nodes in limits and in InUse.
const ResourceNodes corev1.ResourceName = "nodes"

// ceil is a quantity in the unit of its resource, rounded up, from 0 to MaxInt64.
func ceil(name corev1.ResourceName, q resource.Quantity) int64 {
	factor := int64(1)
	if name == corev1.ResourceCPU {
		factor = 1000
	}
	if q.Sign() <= 0 {
		return 0
	}
	if q.CmpInt64(math.MaxInt64/factor) >= 0 {
		return math.MaxInt64
	}
	if factor == 1000 {
		return q.MilliValue()
	}
	return q.Value()
}

// floor is a limit in the unit of its resource, rounded down.
func floor(name corev1.ResourceName, q resource.Quantity) int64 {
	n := ceil(name, q)
	if n == 0 || n == math.MaxInt64 {
		return n
	}
	if back := quantity(name, n); back.Cmp(q) > 0 {
		n--
	}
	return n
}

// quantity is the converse of ceil.
func quantity(name corev1.ResourceName, n int64) resource.Quantity {
	switch {
	case name == corev1.ResourceCPU:
		return *resource.NewMilliQuantity(n, resource.DecimalSI)
	case inBytes(name):
		return *resource.NewQuantity(n, resource.BinarySI)
	default:
		return *resource.NewQuantity(n, resource.DecimalSI)
	}
}

// inBytes reports whether a resource is counted in bytes.
func inBytes(name corev1.ResourceName) bool {
	return name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || name == corev1.ResourceStorage ||
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// list is the amount as Kubernetes writes it; nil for nothing.
func (a amount) list() corev1.ResourceList {
	if len(a) == 0 {
		return nil
	}
	out := make(corev1.ResourceList, len(a))
	for _, c := range a {
		out[c.name] = quantity(c.name, c.n)
	}
	return out
}

// SameAmount says whether two amounts count alike in a ledger, which knows no fractions of a byte or of a thousandth of a
// core.
func SameAmount(a, b corev1.ResourceList) bool { return slices.Equal(amountOf(a), amountOf(b)) }

// of is how much of a resource the amount has.
func (a amount) of(name corev1.ResourceName) int64 {
	for _, c := range a {
		if c.name == name {
			return c.n
		}
	}
	return 0
}

// max is the greater of both, resource by resource.
func (a amount) max(b amount) amount {
	out := slices.Clone(a)
	for _, c := range b {
		if i, found := out.find(c.name); found {
			out[i].n = max(out[i].n, c.n)
		} else {
			out = slices.Insert(out, i, c)
		}
	}
	return out
}

func (a amount) find(name corev1.ResourceName) (int, bool) {
	return slices.BinarySearchFunc(a, name, func(c count, name corev1.ResourceName) int { return cmp.Compare(c.name, name) })
}

// tally is the sum of what several pods count for.
type tally struct {
	pods int64
	of   amount
}

// add adds pods that count for a each; a negative number takes them away.
func (t *tally) add(pods int64, a amount) {
	t.pods += pods
	for _, c := range a {
		i, found := t.of.find(c.name)
		if !found {
			t.of = slices.Insert(t.of, i, count{name: c.name})
		}
		t.of[i].n += pods * c.n
		if t.of[i].n == 0 {
			t.of = slices.Delete(t.of, i, i+1)
		}
	}
}

// addTally adds another tally.
func (t *tally) addTally(o tally) {
	t.add(1, o.of)
	t.pods += o.pods - 1
}

func (t tally) clone() tally { return tally{pods: t.pods, of: slices.Clone(t.of)} }

// bounds are limits in the units of amounts.
type bounds struct {
	pods, nodes int64 // unlimited where not set
	of          amount
}

func boundsOf(limits corev1.ResourceList) bounds {
	b := bounds{pods: unlimited, nodes: unlimited}
	for name, q := range limits {
		n := floor(name, q)
		switch name {
		case corev1.ResourcePods:
			b.pods = n
		case ResourceNodes:
			b.nodes = n
		default:
			b.of = append(b.of, count{name, n})
		}
	}
	slices.SortFunc(b.of, func(a, b count) int { return cmp.Compare(a.name, b.name) })
	return b
}

// lacking is the first resource of which there is too little when want is added to what is in use; empty where it fits.
// Only what want adds is looked at: who wants no GPU is not held up by too many GPUs in use.
func (b bounds) lacking(inUse, want tally) corev1.ResourceName {
	if want.pods > 0 && inUse.pods+want.pods > b.pods {
		return corev1.ResourcePods
	}
	for _, limit := range b.of {
		if more := want.of.of(limit.name); more > 0 && inUse.of.of(limit.name)+more > limit.n {
			return limit.name
		}
	}
	return ""
}

// within reports whether what is in use is within the bounds, nodes aside.
func (b bounds) within(inUse tally) bool {
	if inUse.pods > b.pods {
		return false
	}
	for _, limit := range b.of {
		if inUse.of.of(limit.name) > limit.n {
			return false
		}
	}
	return true
}

// limit is the bound of a resource, pods and nodes included.
func (b bounds) limit(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourcePods:
		return b.pods
	case ResourceNodes:
		return b.nodes
	}
	for _, c := range b.of {
		if c.name == name {
			return c.n
		}
	}
	return unlimited
}
