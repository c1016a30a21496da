package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// DenialLimits bounds what denials may write to the log, for each operator replica.
type DenialLimits struct {
	// PerNamespace is how many different denials of a namespace are written in a minute. Default 30.
	PerNamespace int
	// Total is how many different denials of all namespaces together are written in a minute. Default 600.
	Total int
	// Namespaces is how many namespaces have a Gap entry of their own in a minute; what is left out of all others is
	// counted together. Default 100.
	Namespaces int
}

func (l DenialLimits) withDefaults() DenialLimits {
	if l.PerNamespace <= 0 {
		l.PerNamespace = 30
	}
	if l.Total <= 0 {
		l.Total = 600
	}
	if l.Namespaces <= 0 {
		l.Namespaces = 100
	}
	return l
}

// Denials turns denials and key refusals, of which a tenant can cause any number, into a bounded number of entries.
// Denials of the same type, namespace, owner, reason and images within a minute are one entry and, at the minute's end,
// one DenialsRepeated entry that says how many more there were. What is beyond the limits is counted in one Gap entry a
// minute and namespace. In a minute a namespace causes at most 2 × PerNamespace + 1 entries, and all together cause at
// most 2 × Total + Namespaces + 1. Memory is bounded likewise: Total entries of MaxLeafBytes, and Total + Namespaces counters.
//
// A pod without an owner counts by its service account, since its name may be random.
//
// It does no I/O, takes the time from its caller, and is not safe for concurrent use.
type Denials struct {
	limits DenialLimits
	minute time.Time
	spaces map[string]*deniedNamespace
	logged []*repeats // in the order in which they came
	others int64      // denials beyond the limits, in namespaces that are not counted apart
}

type deniedNamespace struct {
	kinds map[denialKey]*repeats
	// capped is the number of denials beyond the limits.
	capped int64
}

type denialKey struct {
	entryType                             Type
	ownerKind, ownerName, account, reason string
	images                                string
}

type repeats struct {
	first Entry
	more  int64
}

// NewDenials returns an empty Denials. Zero limits take their defaults.
func NewDenials(limits DenialLimits) *Denials {
	return &Denials{limits: limits.withDefaults(), spaces: map[string]*deniedNamespace{}}
}

// Observe takes a denial and returns what is to be written now: what Flush returns if a minute has ended, and the
// denial itself if it is the first of its kind in this minute and within the limits. The entry must be complete and
// bounded.
func (d *Denials) Observe(now time.Time, e Entry) []Entry {
	out := d.Flush(now)
	if len(d.spaces) == 0 && d.others == 0 {
		d.minute = now.Truncate(time.Minute)
	}
	space := d.spaces[e.Namespace]
	if space == nil {
		if len(d.logged) >= d.limits.Total && len(d.spaces) >= d.limits.Namespaces {
			d.others++
			return out
		}
		space = &deniedNamespace{kinds: map[denialKey]*repeats{}}
		d.spaces[e.Namespace] = space
	}
	key := keyOf(e)
	if known := space.kinds[key]; known != nil {
		known.more++
		return out
	}
	if len(space.kinds) >= d.limits.PerNamespace || len(d.logged) >= d.limits.Total {
		space.capped++
		return out
	}
	kind := &repeats{first: e}
	space.kinds[key] = kind
	d.logged = append(d.logged, kind)
	return append(out, e)
}

// Flush returns the DenialsRepeated and Gap entries of a minute that has ended, and nothing while it lasts. A clock that
// is set back only makes the minute longer.
func (d *Denials) Flush(now time.Time) []Entry {
	if now.Before(d.minute.Add(time.Minute)) {
		return nil
	}
	return d.FlushAll(now)
}

// FlushAll is Flush for a minute that has not ended, for when the operator does.
func (d *Denials) FlushAll(now time.Time) []Entry {
	var out []Entry
	for _, kind := range d.logged {
		if kind.more > 0 {
			out = append(out, repeated(now, kind.first, kind.more))
		}
	}
	gaps := 0
	for _, namespace := range slices.Sorted(maps.Keys(d.spaces)) {
		capped := d.spaces[namespace].capped
		switch {
		case capped == 0:
		case gaps >= d.limits.Namespaces:
			d.others += capped
		default:
			gaps++
			out = append(out, cappedGap(now, d.minute, namespace, "namespace "+namespace, capped))
		}
	}
	if d.others > 0 {
		out = append(out, cappedGap(now, d.minute, "", "further namespaces", d.others))
	}
	d.spaces, d.logged, d.others = map[string]*deniedNamespace{}, nil, 0
	return out
}

// Due is when Flush will have something to return, and false while there is nothing to flush.
func (d *Denials) Due() (time.Time, bool) {
	return d.minute.Add(time.Minute), len(d.spaces) > 0 || d.others > 0
}

func keyOf(e Entry) denialKey {
	key := denialKey{
		entryType: e.Type, ownerKind: e.Owner.Kind, ownerName: e.Owner.Name,
		reason: string(e.Reason), images: strings.Join(e.Images, "\n"),
	}
	if e.Owner == (Owner{}) {
		key.account = e.ServiceAccount
	}
	return key
}

func repeated(now time.Time, first Entry, more int64) Entry {
	e := first
	e.Type, e.Time, e.Count, e.Of, e.ID = DenialsRepeated, now, more, first.ID, ""
	return e
}

func cappedGap(now, minute time.Time, namespace, where string, count int64) Entry {
	return Entry{
		Type: Gap, Time: now, Namespace: namespace, Reason: v1alpha1.ReasonDenialsCapped, Count: count,
		Message: fmt.Sprintf("%d denials in %s from %s on were counted but not written one by one",
			count, where, minute.UTC().Format(time.RFC3339)),
	}
}
