package audit

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Denials turns denials, key refusals, finds (unlicensed pods, copies and their evictions) and sessions, of which a tenant can cause
// any number, into a bounded number of bytes. Those of the same type, namespace, owner, reason, images and user, and sessions of the same pod and licence, within a minute are one entry and, at the minute's end, one
// short DenialsRepeated entry that says how many more there were. What is beyond the limits is counted in Gap entries, at
// most one an hour and namespace. DenialLimits says what that comes to.
//
// Denials, key refusals, finds and sessions have budgets of their own, so that none hides another. The first of a namespace, type and
// reason within an hour has another budget, so that a loud namespace does not hide a quiet one.
//
// A pod without an owner counts by its service account, since its name may be random. Users cannot be made up, but
// service accounts can be created; so the user, as all else, only decides what is told apart within the budgets.
//
// Memory is bounded: DenialLimits.Namespaces counters, and as many short notes as the budgets let entries be written
// within a minute, which is below 3,000 by default.
//
// It does no I/O, takes the time from its caller, and is not safe for concurrent use.
type Denials struct {
	limits DenialLimits
	minute time.Time
	spaces map[string]*deniedNamespace
	kinds  map[denialKey]*repeats
	logged []*repeats // the kinds, in the order in which they came
	pools  [classes]pool
	gaps   gapLedger
}

// class tells denials, key refusals, finds and sessions apart.
type class int

const (
	deniedClass class = iota
	refusedClass
	foundClass
	execClass
	classes
)

// classOf is the class of entries that users cause at will, and false for all others.
func classOf(t Type) (class, bool) {
	switch t {
	case Denied:
		return deniedClass, true
	case KeyRefused:
		return refusedClass, true
	case Found, CopyDetected, CopyEvicted:
		return foundClass, true
	case Exec:
		return execClass, true
	default:
		return 0, false
	}
}

// caused says whether users cause entries of the type at will.
func (t Type) caused() bool {
	_, caused := classOf(t)
	return caused
}

// pool is what all namespaces share.
type pool struct{ total, firsts *bucket }

type deniedNamespace struct {
	shares [classes]share
	capped cappedCount
	// nextGap is when the namespace may have its next Gap entry.
	nextGap time.Time
}

// share is what a namespace may write of one class.
type share struct {
	budget *bucket
	hour   time.Time
	// seen are the reasons that were written within the hour; reserved is how many of them from the pool of firsts.
	seen     map[v1alpha1.Reason]bool
	reserved int
}

type denialKey [sha256.Size]byte

// repeats is what is remembered of an entry until the minute ends.
type repeats struct {
	namespace, id string
	reason        v1alpha1.Reason
	more          int64
	owes          *bucket // the namespace's
	total         *bucket
}

// NewDenials returns an empty Denials. Zero limits take their defaults.
func NewDenials(limits DenialLimits) *Denials {
	limits = limits.withDefaults()
	d := &Denials{limits: limits, spaces: map[string]*deniedNamespace{}, kinds: map[denialKey]*repeats{}}
	for c := range d.pools {
		d.pools[c] = pool{total: newBucket(limits.Total), firsts: newBucket(limits.Firsts)}
	}
	return d
}

// Fate is what becomes of a denial.
type Fate int

// Fates of a denial.
const (
	// Written means that it has an entry of its own.
	Written Fate = iota
	// Repeated means that it is counted in the DenialsRepeated entry of another.
	Repeated
	// Capped means that it is counted in a Gap entry.
	Capped
)

// Observe takes a denial and returns what is to be written now: what Flush returns if a minute has ended, and the
// denial itself if it is Written, last. The entry must be complete and bounded, and of a type that users cause. A find of
// the same ID as the entry which it would repeat is that entry, tried again since it was not known to be durable: it is
// written again.
func (d *Denials) Observe(now time.Time, e Entry) ([]Entry, Fate) {
	out := d.Flush(now)
	if !d.pending() { // of a minute before the clock was set back nothing is left to tell
		d.minute = now.Truncate(time.Minute)
	}
	c, _ := classOf(e.Type)
	space := d.namespace(e.Namespace)
	if space == nil {
		d.capped(&d.gaps.others, c)
		return out, Capped
	}
	key := keyOf(e)
	known := d.kinds[key]
	if known != nil && (c != foundClass || known.id != e.ID) {
		known.more++
		return out, Repeated
	}
	share := space.shareOf(now, c)
	if !d.pay(now, share, d.pools[c], e) {
		d.capped(&space.capped, c)
		return out, Capped
	}
	if known != nil {
		return append(out, e), Written
	}
	kind := &repeats{namespace: e.Namespace, id: e.ID, reason: e.Reason, owes: share.budget, total: d.pools[c].total}
	d.kinds[key] = kind
	d.logged = append(d.logged, kind)
	return append(out, e), Written
}

// namespace returns nil for a namespace that is new, if there are too many.
func (d *Denials) namespace(name string) *deniedNamespace {
	space := d.spaces[name]
	if space == nil && len(d.spaces) < d.limits.Namespaces {
		space = &deniedNamespace{}
		for c := range space.shares {
			space.shares[c].budget = newBucket(d.limits.Namespace)
		}
		d.spaces[name] = space
	}
	return space
}

func (n *deniedNamespace) shareOf(now time.Time, c class) *share {
	s := &n.shares[c]
	if hour := now.Truncate(time.Hour); hour.After(s.hour) {
		s.hour, s.seen, s.reserved = hour, nil, 0
	}
	return s
}

// pay takes the bytes of an entry from the namespace and from what is shared. Where either is used up, the first of its
// reason is paid for by the pool of firsts, and the namespace owes the bytes.
func (d *Denials) pay(now time.Time, s *share, p pool, e Entry) bool {
	first := !s.seen[e.Reason] && s.reserved < d.limits.FirstsPerNamespace
	affordable := func(bytes int64) (ordinary, reserve bool) {
		return s.budget.has(now, bytes) && p.total.has(now, bytes), first && p.firsts.has(now, bytes)
	}
	if ordinary, reserve := affordable(leastBytes(e)); !ordinary && !reserve {
		return false // in a flood, without encoding the entry
	}
	bytes := writtenBytes(e)
	shared := p.total
	switch ordinary, reserve := affordable(bytes); {
	case ordinary:
	case reserve:
		shared = p.firsts
		s.reserved++
	default:
		return false
	}
	s.budget.use(now, bytes)
	shared.use(now, bytes)
	if s.seen == nil {
		s.seen = map[v1alpha1.Reason]bool{}
	}
	s.seen[e.Reason] = true
	return true
}

// Flush returns the DenialsRepeated and Gap entries of a minute that has ended, and nothing while it lasts. A clock that
// is set back only makes the minute longer.
func (d *Denials) Flush(now time.Time) []Entry {
	if now.Before(d.minute.Add(time.Minute)) {
		return nil
	}
	out := append(d.repeated(now), d.dueGaps(now)...)
	d.forget(now)
	d.minute = now.Truncate(time.Minute)
	return out
}

// FlushAll returns whatever there is to tell, for when the operator ends.
func (d *Denials) FlushAll(now time.Time) []Entry {
	out := append(d.repeated(now), d.allGaps(now)...)
	d.forget(now)
	return out
}

// Due is when Flush may have something to return, and false while there is nothing to flush.
func (d *Denials) Due() (time.Time, bool) {
	return d.minute.Add(time.Minute), d.pending()
}

func (d *Denials) pending() bool { return len(d.logged) > 0 || d.gaps.untold > 0 }

// repeated returns the DenialsRepeated entries. The namespace owes the bytes, and the pool of all does: the pool of firsts
// is for firsts alone.
func (d *Denials) repeated(now time.Time) []Entry {
	var out []Entry
	for _, kind := range d.logged {
		if kind.more == 0 {
			continue
		}
		e := Entry{Type: DenialsRepeated, Time: now, Namespace: kind.namespace, Reason: kind.reason, Count: kind.more, Of: kind.id}
		out = append(out, e)
		bytes := writtenBytes(e)
		kind.owes.use(now, bytes)
		kind.total.use(now, bytes)
	}
	d.kinds, d.logged = map[denialKey]*repeats{}, nil
	return out
}

// forget drops the namespaces that have nothing to tell and would begin anew with what they have.
func (d *Denials) forget(now time.Time) {
	for name, space := range d.spaces {
		quiet := !space.capped.any() && !now.Before(space.nextGap)
		for c := range classes {
			s := space.shareOf(now, c)
			quiet = quiet && len(s.seen) == 0 && s.budget.full(now)
		}
		if quiet {
			delete(d.spaces, name)
		}
	}
}

func keyOf(e Entry) denialKey {
	account := ""
	if e.Owner == (Owner{}) {
		account = e.ServiceAccount
	}
	parts := append([]string{string(e.Type), e.Namespace, e.Owner.Kind, e.Owner.Name, account, string(e.Reason), e.Actor}, e.Images...)
	if e.Type == Exec { // Into which pod matters, and there are no more pods than run.
		parts = append(parts, e.Pod.UID, e.License.Name)
	}
	encoded, _ := json.Marshal(parts) // strings can always be encoded
	return sha256.Sum256(encoded)
}

// writtenBytes is how much etcd grows by when an entry is written in a record of its own, as it is at human rates. It
// is too much for one that shares a record.
func writtenBytes(e Entry) int64 {
	e.Version, e.Writer = Version, fullWriter
	if e.ID == "" {
		e.ID = e.deriveID()
	}
	leaf, err := e.Canonical()
	if err != nil {
		return recordBytes + 2*MaxLeafBytes
	}
	return recordBytes + int64(storedBytes(Summary(e, 0))+storedBytes(string(leaf)))
}

// leastBytes is less than writtenBytes, and cheaper.
func leastBytes(e Entry) int64 {
	n := recordBytes
	for _, s := range append([]string{
		e.Namespace, e.Pod.Name, e.Owner.Name, e.ServiceAccount, e.Node, e.License.Name, e.Grant.Name, e.Message, e.Actor, e.ID,
	}, e.Images...) {
		n += storedBytes(s)
	}
	return int64(n)
}
