package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// cappedCount is how much of each class was not written, since when.
type cappedCount struct {
	since time.Time
	count [classes]int64
}

func (n *cappedCount) any() bool { return n.count != [classes]int64{} }

func (n *cappedCount) add(since time.Time, c class, count int64) {
	if !n.any() || since.Before(n.since) {
		n.since = since
	}
	n.count[c] += count
}

// merge moves another count into this one.
func (n *cappedCount) merge(other *cappedCount) {
	for c, count := range other.count {
		if count > 0 {
			n.add(other.since, class(c), count)
		}
	}
	*other = cappedCount{}
}

// gapLedger bounds the Gap entries: so many an hour, and one more for what namespaces without one left out.
type gapLedger struct {
	hour       time.Time
	written    int
	others     cappedCount
	nextOthers time.Time
	// untold is how much no Gap entry has told of yet.
	untold int64
}

func (d *Denials) capped(where *cappedCount, c class) {
	where.add(d.minute, c, 1)
	d.gaps.untold++
}

// dueGaps returns the Gap entry of every namespace that left something out and had none for an hour.
func (d *Denials) dueGaps(now time.Time) []Entry {
	return d.takeGaps(now, func(next time.Time) bool { return !now.Before(next) })
}

// allGaps returns the Gap entries of all namespaces, within the bound of an hour.
func (d *Denials) allGaps(now time.Time) []Entry {
	d.gaps.hour, d.gaps.written = now.Truncate(time.Hour), 0
	return d.takeGaps(now, func(time.Time) bool { return true })
}

func (d *Denials) takeGaps(now time.Time, due func(next time.Time) bool) []Entry {
	g := &d.gaps
	if hour := now.Truncate(time.Hour); hour.After(g.hour) {
		g.hour, g.written = hour, 0
	}
	var out []Entry
	for _, namespace := range slices.Sorted(maps.Keys(d.spaces)) {
		space := d.spaces[namespace]
		switch {
		case !space.capped.any() || !due(space.nextGap):
		case g.written >= d.limits.GapsPerHour:
			g.others.merge(&space.capped)
		default:
			g.written++
			out = append(out, cappedGap(now, namespace, "namespace "+namespace, space.capped))
			space.capped, space.nextGap = cappedCount{}, now.Add(time.Hour)
		}
	}
	if g.others.any() && due(g.nextOthers) {
		out = append(out, cappedGap(now, "", "further namespaces", g.others))
		g.others, g.nextOthers = cappedCount{}, now.Add(time.Hour)
	}
	for _, gap := range out {
		g.untold -= gap.Count
	}
	return out
}

func cappedGap(now time.Time, namespace, where string, n cappedCount) Entry {
	var what []string
	if denied := n.count[deniedClass]; denied > 0 {
		what = append(what, fmt.Sprintf("%d denials", denied))
	}
	if refused := n.count[refusedClass]; refused > 0 {
		what = append(what, fmt.Sprintf("%d refusals of keys", refused))
	}
	if found := n.count[foundClass]; found > 0 {
		what = append(what, fmt.Sprintf("%d unlicensed pods and copies", found))
	}
	if opened := n.count[execClass]; opened > 0 {
		what = append(what, fmt.Sprintf("%d sessions", opened))
	}
	count := int64(0)
	for _, c := range n.count {
		count += c
	}
	return Entry{
		Type: Gap, Time: now, Namespace: namespace, Reason: v1alpha1.ReasonDenialsCapped,
		Count: count,
		Message: fmt.Sprintf("%s in %s from %s on were counted but not written one by one",
			strings.Join(what, " and "), where, n.since.UTC().Format(time.RFC3339)),
	}
}
