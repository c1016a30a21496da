package audit

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// MaxLeafBytes is the most bytes that the canonical JSON of an entry has. The schema of ModelAuditRecord says the same.
const MaxLeafBytes = 4096

// Bounds of an entry's strings, in bytes of their JSON form; of denials, in bytes of that as etcd has it. Together with the names of the fields they stay below
// MaxLeafBytes whatever the strings hold. An attacker chooses image names, and the names of pods' owners.
const (
	maxType      = 20
	maxID        = 104 // Admitted, two UIDs and a generation
	maxWriter    = 63
	maxNamespace = 63
	maxName      = 253 // metadata.name: a DNS subdomain
	maxLabel     = 63  // a DNS label; licences' names are at most 50
	maxUID       = 40
	maxReason    = 40
	maxActor     = 200
)

// textBounds are the bounds that differ by what an entry is about, in bytes of JSON.
type textBounds struct {
	message int
	image   int
	images  int // of all images together, with their quotes and commas
	keys    int // of all key names together, with their quotes and commas
	of      int
	pod     int
	// size is what the bounds count.
	size func(string) int
}

var (
	// evidenceBounds hold what happened whole: an image of repository (255), tag (128) and digest (71), and 8 keys of 63
	// characters, as many as a licence has.
	evidenceBounds = textBounds{message: 400, image: 512, images: 640, keys: 560, of: len(ellipsis), pod: maxName, size: jsonBytes}
	// denialBounds are tighter, since tenants cause such entries at will.
	denialBounds = textBounds{message: 320, image: 256, images: 320, keys: maxLabel + listOverhead, of: maxID, pod: 128, size: etcdBytes}
)

func boundsOf(t Type) textBounds {
	if t.caused() || t == DenialsRepeated || t == Gap {
		return denialBounds
	}
	return evidenceBounds
}

// maxInteger is the largest integer that JSON (RFC 8785, IEEE 754) holds exactly.
const maxInteger = 1<<53 - 1

const (
	ellipsis      = "…"
	listOverhead  = len(`"",`)
	replacement   = string(unicode.ReplacementChar)
	shortestImage = 64 // less room than this is not worth the beginning of a reference
)

// bounded returns the entry with every string within its bound, and Truncated set if something had to give way.
func (e Entry) bounded() Entry {
	limits := boundsOf(e.Type)
	b := bounder{size: limits.size}
	e.Type = Type(b.text(string(e.Type), maxType))
	e.ID = b.text(e.ID, maxID)
	e.Writer = b.text(e.Writer, maxWriter)
	e.Namespace = b.text(e.Namespace, maxNamespace)
	e.Pod = b.object(e.Pod, limits.pod)
	e.Owner = Owner{Kind: b.text(e.Owner.Kind, maxLabel), Name: b.text(e.Owner.Name, maxName)}
	e.ServiceAccount = b.text(e.ServiceAccount, maxName)
	e.Node = b.text(e.Node, maxName)
	e.License = b.object(e.License, maxLabel)
	e.Grant = b.object(e.Grant, maxName)
	e.Keys = b.list(e.Keys, maxLabel, limits.keys)
	e.Images = b.list(e.Images, limits.image, limits.images)
	e.Reason = v1alpha1.Reason(b.text(string(e.Reason), maxReason))
	e.Message = b.text(e.Message, limits.message)
	e.Count = b.integer(e.Count)
	e.Seconds = b.integer(e.Seconds)
	e.Usage = b.amounts(e.Usage, maxLabel, limits.keys-b.total(e.Keys))
	e.Of = b.text(e.Of, limits.of)
	e.Actor = b.text(e.Actor, maxActor)
	e.Truncated = e.Truncated || b.cut
	return e
}

// bounder bounds strings and remembers whether it had to cut one.
type bounder struct {
	size func(string) int
	cut  bool
}

func (b *bounder) text(s string, limit int) string {
	bounded, changed := boundText(s, limit, b.size)
	b.cut = b.cut || changed
	return bounded
}

func (b *bounder) integer(n int64) int64 {
	if n < 0 || n > maxInteger {
		b.cut = true
		return min(max(n, 0), maxInteger)
	}
	return n
}

func (b *bounder) object(o Object, nameLimit int) Object {
	return Object{Name: b.text(o.Name, nameLimit), UID: b.text(o.UID, maxUID), Generation: b.integer(o.Generation)}
}

// list keeps the first strings that fit in total.
func (b *bounder) list(in []string, limit, total int) []string {
	if len(in) == 0 {
		return nil
	}
	var out []string
	for _, s := range in {
		room := min(limit, total-listOverhead)
		if room < min(limit, shortestImage) {
			b.cut = true
			break
		}
		s = b.text(s, room)
		out = append(out, s)
		total -= b.size(s) + listOverhead
	}
	return out
}

// total is what a bounded list takes.
func (b *bounder) total(list []string) int {
	n := 0
	for _, s := range list {
		n += b.size(s) + listOverhead
	}
	return n
}

// amountDigits is the room for an amount, its colon and its comma.
const amountDigits = len(`:9007199254740991,`)

// amounts keeps, in the order of the names, those that fit in total.
func (b *bounder) amounts(in map[string]int64, limit, total int) map[string]int64 {
	if len(in) == 0 {
		return nil
	}
	out := map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		kept := b.text(name, limit)
		if total -= b.size(kept) + len(`""`) + amountDigits; total < 0 {
			b.cut = true
			break
		}
		out[kept] = b.integer(in[name])
	}
	return out
}

// boundText returns s as valid UTF-8 without control and formatting characters, which could deceive whoever reads the
// log in a terminal, cut so that its size is at most limit; and whether that changed s.
// Line ends and tabs become spaces. limit must be at least 3.
func boundText(s string, limit int, size func(string) int) (string, bool) {
	if plain(s) && size(s) <= limit {
		return s, false
	}
	var out strings.Builder
	used, end := 0, 0 // size so far; length of out at the last place where an ellipsis still fitted
	changed := false
	for i, r := range s {
		text := string(r)
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], replacement):
			text, changed = replacement, true
		case r == '\n' || r == '\r' || r == '\t':
			text, changed = " ", true
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			text, changed = replacement, true
		}
		if used+len(ellipsis) <= limit {
			end = out.Len()
		}
		used += size(text)
		if used > limit {
			return out.String()[:end] + ellipsis, true
		}
		out.WriteString(text)
	}
	return out.String(), changed
}

// plain reports whether a string consists of printable ASCII, as nearly all do.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// jsonBytes is the length of a bounded string's canonical JSON form without its quotes: only these two are escaped.
func jsonBytes(s string) int {
	return len(s) + strings.Count(s, `"`) + strings.Count(s, `\`)
}

// etcdBytes is the length of a bounded string's canonical JSON form in etcd, where that is within a JSON string again.
func etcdBytes(s string) int {
	n := len(s)
	for i := range len(s) {
		switch s[i] {
		case '"', '\\':
			n += 3
		case '<', '>', '&':
			n += 5
		}
	}
	return n
}
