package audit

import "strings"

// Defaults of DenialLimits.
const (
	// DefaultNamespaceBurst is about 30 entries of usual length, DefaultNamespaceHourly about 40 an hour. In bytes.
	DefaultNamespaceBurst  = 48 << 10
	DefaultNamespaceHourly = 60 << 10
	// DefaultTotalBurst is about 300 entries of usual length, DefaultTotalDaily about 4,500 a day. In bytes.
	DefaultTotalBurst = 512 << 10
	DefaultTotalDaily = 7 << 20
	// DefaultFirstsBurst is about 150 entries of usual length, DefaultFirstsDaily as many an hour. In bytes.
	DefaultFirstsBurst = 256 << 10
	DefaultFirstsDaily = 6 << 20
	// DefaultFirstsPerNamespace is how many of them a namespace has an hour.
	DefaultFirstsPerNamespace = 3
	// DefaultNamespaces is how many namespaces are counted apart, DefaultGapsPerHour how many of them have a Gap entry.
	DefaultNamespaces  = 1024
	DefaultGapsPerHour = 50
)

// DenialLimits bounds what denials may write to the log, for each operator replica since it started. Bytes are those
// that etcd grows by: of the entry as JSON in JSON, and of its record. Rates hold for denials (Denied), for key refusals
// (KeyRefused), for finds (Found, CopyDetected, CopyEvicted), and for sessions (Exec) apart; only the leader writes finds.
//
// On average, a namespace causes at most 4 × Namespace.Hourly an hour, and all namespaces together 4 × (Total.Hourly +
// Firsts.Hourly); in the beginning the bursts come on top, and at any time what is overdrawn: the DenialsRepeated entries
// of the entries that a burst holds. Besides, there are a Gap entry an hour and namespace, and 1 + GapsPerHour of them an
// hour together, each below 2 KiB.
type DenialLimits struct {
	// Namespace is what a namespace has.
	Namespace Rate
	// Total is what all namespaces have together.
	Total Rate
	// Firsts is what all namespaces have together, beyond Total, for the first entry of a reason within an hour. It
	// also holds for a namespace that has used up its own.
	Firsts Rate
	// FirstsPerNamespace is how many entries a namespace may write from Firsts within an hour.
	FirstsPerNamespace int
	// Namespaces is how many namespaces are counted apart. One is forgotten when it has been quiet long enough to
	// have all that it had. What further ones do is counted together, and not written.
	Namespaces int
	// GapsPerHour is how many Gap entries of single namespaces are written within an hour; what else is left out is
	// counted together.
	GapsPerHour int
}

func (l DenialLimits) withDefaults() DenialLimits {
	setDefault(&l.FirstsPerNamespace, DefaultFirstsPerNamespace)
	setDefault(&l.Namespaces, DefaultNamespaces)
	setDefault(&l.GapsPerHour, DefaultGapsPerHour)
	l.Namespace = l.Namespace.orDefault(Rate{Burst: DefaultNamespaceBurst, Hourly: DefaultNamespaceHourly})
	l.Total = l.Total.orDefault(Rate{Burst: DefaultTotalBurst, Hourly: DefaultTotalDaily / 24})
	l.Firsts = l.Firsts.orDefault(Rate{Burst: DefaultFirstsBurst, Hourly: DefaultFirstsDaily / 24})
	return l
}

// recordBytes is what a record takes in etcd beside its entries and its summary: names, metadata, managed fields, and
// etcd's key and revision.
const recordBytes = 768

// fullWriter stands for a writer's name, of which it has the greatest length.
var fullWriter = strings.Repeat("w", maxWriter)
