package seats

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// restSuffix is what the stored usage of a resource has behind its name where it says the fraction of a unit: of cpu in
// thousandths, of what is counted in bytes in bytes. Names of devices have a '/', and no fractions.
const restSuffix = ".rest"

// maxMeters bounds the resources of which usage is kept, so that it fits in v1alpha1.UsageStatus with fractions.
const maxMeters = 16

// usage is what was used, exactly. It only grows; at the largest number it stays.
type usage struct {
	podSeconds int64
	of         []meter // sorted by name
}

// meter is the usage of one resource: whole units times seconds, and a fraction of a unit times seconds.
type meter struct {
	name        corev1.ResourceName
	whole, rest int64
}

// unitOf is how much of a resource makes one of the units of v1alpha1.UsageStatus.
func unitOf(name corev1.ResourceName) uint64 {
	switch {
	case name == corev1.ResourceCPU:
		return 1000
	case inBytes(name):
		return 1 << 30
	default:
		return 1
	}
}

func (u usage) empty() bool { return u.podSeconds == 0 && len(u.of) == 0 }

func (u usage) clone() usage { return usage{podSeconds: u.podSeconds, of: slices.Clone(u.of)} }

// addPods adds the seconds that a pod held its seat.
func (u *usage) addPods(seconds int64) { u.podSeconds = addCapped(u.podSeconds, seconds) }

// addResources adds an amount that was held for some seconds.
func (u *usage) addResources(a amount, seconds int64) {
	if seconds <= 0 {
		return
	}
	for _, c := range a {
		size := unitOf(c.name)
		hi, lo := bits.Mul64(uint64(c.n), uint64(seconds))
		whole, rest := uint64(math.MaxInt64), uint64(0)
		if hi < size {
			whole, rest = bits.Div64(hi, lo, size)
		}
		u.add(meter{c.name, int64(min(whole, math.MaxInt64)), int64(rest)})
	}
}

func (u *usage) add(m meter) {
	i, found := slices.BinarySearchFunc(u.of, m.name, func(m meter, name corev1.ResourceName) int { return cmp.Compare(m.name, name) })
	if !found {
		if len(u.of) >= maxMeters {
			return
		}
		u.of = slices.Insert(u.of, i, meter{name: m.name})
	}
	to := &u.of[i]
	to.whole = addCapped(to.whole, m.whole)
	to.rest += m.rest
	if size := int64(unitOf(m.name)); to.rest >= size {
		to.rest -= size
		to.whole = addCapped(to.whole, 1)
	}
}

func (u *usage) addUsage(o usage) {
	u.addPods(o.podSeconds)
	for _, m := range o.of {
		u.add(m)
	}
}

func addCapped(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// status is the usage in whole units.
func (u usage) status() v1alpha1.UsageStatus {
	out := v1alpha1.UsageStatus{PodSeconds: u.podSeconds}
	for _, m := range u.of {
		if m.whole > 0 {
			if out.ResourceSeconds == nil {
				out.ResourceSeconds = map[corev1.ResourceName]int64{}
			}
			out.ResourceSeconds[m.name] = m.whole
		}
	}
	return out
}

// stored is the usage as the ledger's object has it; nil for none.
func (u usage) stored() *v1alpha1.UsageStatus {
	if u.empty() {
		return nil
	}
	out := &v1alpha1.UsageStatus{PodSeconds: u.podSeconds}
	if len(u.of) > 0 {
		out.ResourceSeconds = make(map[corev1.ResourceName]int64, len(u.of))
	}
	for _, m := range u.of {
		out.ResourceSeconds[m.name] = m.whole
		if m.rest > 0 {
			out.ResourceSeconds[m.name+restSuffix] = m.rest
		}
	}
	return out
}

// usageFrom reads what stored wrote.
func usageFrom(s *v1alpha1.UsageStatus) (usage, error) {
	if s == nil {
		return usage{}, nil
	}
	if s.PodSeconds < 0 {
		return usage{}, fmt.Errorf("podSeconds %d are negative", s.PodSeconds)
	}
	u := usage{podSeconds: s.PodSeconds}
	for name, n := range s.ResourceSeconds {
		if n < 0 {
			return usage{}, fmt.Errorf("resourceSeconds of %s are negative", name)
		}
		if of, isRest := strings.CutSuffix(string(name), restSuffix); isRest && unitOf(corev1.ResourceName(of)) > 1 {
			if _, whole := s.ResourceSeconds[corev1.ResourceName(of)]; !whole || n >= int64(unitOf(corev1.ResourceName(of))) {
				return usage{}, fmt.Errorf("resourceSeconds of %s are no fraction", name)
			}
			continue
		}
		u.of = append(u.of, meter{name, n, s.ResourceSeconds[name+restSuffix]})
	}
	if len(u.of) > maxMeters {
		return usage{}, fmt.Errorf("%d resources have usage, %d are the most", len(u.of), maxMeters)
	}
	for i := range u.of {
		if unitOf(u.of[i].name) == 1 {
			u.of[i].rest = 0
		}
	}
	slices.SortFunc(u.of, func(a, b meter) int { return cmp.Compare(a.name, b.name) })
	return u, nil
}

// until is what a holder has used until a second, without what is in the closed usage already.
func (l *Ledger) until(h *holder, at int64) usage {
	var u usage
	u.addPods(max(at-h.since, 0))
	u.addResources(l.amounts[h.amount].amount, at-max(h.since, h.meteredFrom))
	return u
}

// Usage is what all pods of the licence have used until now, those that hold a seat included, rounded down.
func (l *Ledger) Usage(now time.Time) v1alpha1.UsageStatus {
	sum := l.closed.clone()
	for i := range l.holders {
		sum.addUsage(l.until(&l.holders[i], second(now)))
	}
	return sum.status()
}

// UsageOf is what the pods under a grant have used until now.
func (l *Ledger) UsageOf(g Grant, now time.Time) v1alpha1.UsageStatus { return l.UsageByGrant(now)[g] }

// UsageByGrant is what the pods under each grant have used until now.
func (l *Ledger) UsageByGrant(now time.Time) map[Grant]v1alpha1.UsageStatus {
	sums := make([]usage, len(l.grants))
	for i := range l.grants {
		sums[i] = l.grants[i].closed.clone()
	}
	for i := range l.holders {
		sums[l.holders[i].grant].addUsage(l.until(&l.holders[i], second(now)))
	}
	out := make(map[Grant]v1alpha1.UsageStatus, len(l.grants))
	for i := range l.grants {
		if l.grants[i].kept() {
			out[l.grants[i].grant] = sums[i].status()
		}
	}
	return out
}

// close moves what a holder has used into the closed usage, and returns it.
func (l *Ledger) close(h *holder, at int64) usage {
	u := l.until(h, at)
	l.closed.addUsage(u)
	l.grants[h.grant].closed.addUsage(u)
	return u
}
