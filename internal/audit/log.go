package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	// ErrNotDurable is in every error of Append: the entry may or may not be in the log, now or in a moment.
	ErrNotDurable = errors.New("audit entry is not known to be durable")
	// ErrStopped means that the log takes no more entries because the operator ends.
	ErrStopped = errors.New("audit log is stopped")
)

// Creator is the part of client.Client with which the log writes.
type Creator interface {
	Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error
}

// Options are what New needs.
type Options struct {
	// Client creates the records. Required. It needs create on modelauditrecords.
	Client Creator
	// Reader reads from the API server itself, without a cache: manager.GetAPIReader(). Required. It needs get and
	// list on modelauditrecords and get on modelauditlogs.
	Reader client.Reader
	// Identity names this replica in its entries: the operator's pod. Required.
	Identity string
	// Clock is the operator's clock. Default: the real one.
	Clock clock.Clock
	// Stamped is told the creation time of each record that this log has created, as the API server has just answered it.
	// It must not block. Optional.
	Stamped func(time.Time)
	// Logger is for faults. Default: none. No entry is ever logged.
	Logger logr.Logger
	// Linger is how long an entry waits for others to share a record with, where records were lately written more often than
	// one in as long. The first few after a quiet time do not wait. Default 200 ms.
	Linger time.Duration
	// QueueSize bounds each of the two queues, in entries of at most MaxLeafBytes. Default 4096.
	QueueSize int
	// RequestTimeout bounds one request to the API server. Default 10 s.
	RequestTimeout time.Duration
	// FlushTimeout bounds how long Start goes on writing what is queued after its context has ended. Default 10 s,
	// which is less than a manager's graceful shutdown of 30 s.
	FlushTimeout time.Duration
	// MaxBackoff bounds the pause between attempts while the API server cannot be reached. Default 5 s.
	MaxBackoff time.Duration
	// Denials bounds what denials may write.
	Denials DenialLimits
}

// Log appends to the audit log. Every replica of the operator runs one: give it to a manager, or call Start.
//
// Entries of releases and admissions have a queue of their own and at least half of every record, so that a flood of
// others does not hold them up.
type Log struct {
	options  Options
	reserved *queue
	ordinary *queue
	wake     chan struct{} // has an element when there may be something to do
	closing  chan struct{} // closed when no more entries are taken
	stopped  chan struct{} // closed when everything that was queued has its outcome
	started  atomic.Bool
	order    atomic.Uint64
	dropped  atomic.Int64 // entries that the next Gap entry has to speak of

	mu      sync.Mutex
	denials *Denials

	// cursor is the index after the last entry that is known to be in the log, or -1 before it was found. Only Start's
	// goroutine uses it.
	cursor int64
	// lastConflict is when another writer was last in the way, and lastCommit when this one last succeeded. Only
	// Start's goroutine uses them.
	lastConflict, lastCommit time.Time
	// settled is until when the records written so far would have taken, had they been one each Linger: spare of them ahead
	// at most. LastSize is how many entries the last one had, committed or not. Only Start's goroutine uses them.
	settled  time.Time
	lastSize int
	// nextGap is when dropped entries may be reported again. Only Start's goroutine uses it.
	nextGap time.Time
}

// New returns a log. It writes nothing before Start; Append and Submit may be called earlier.
func New(options Options) (*Log, error) {
	if options.Client == nil || options.Reader == nil || options.Identity == "" {
		return nil, errors.New("audit log needs a client, a reader and an identity")
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger.GetSink() == nil {
		options.Logger = logr.Discard()
	}
	setDefault(&options.Linger, 200*time.Millisecond)
	setDefault(&options.QueueSize, 4096)
	setDefault(&options.RequestTimeout, 10*time.Second)
	setDefault(&options.FlushTimeout, 10*time.Second)
	setDefault(&options.MaxBackoff, 5*time.Second)
	return &Log{
		options:  options,
		reserved: newQueue(options.QueueSize),
		ordinary: newQueue(options.QueueSize),
		wake:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		denials:  NewDenials(options.Denials),
		cursor:   -1,
	}, nil
}

func setDefault[T int | time.Duration](value *T, byDefault T) {
	if *value <= 0 {
		*value = byDefault
	}
}

// Append writes an entry and returns its index in the log once it is durable in etcd. It waits: for others to share a
// record with, for room in the queue, for an API server that cannot be reached; so give ctx a deadline. When the API
// server refuses the record (no permission, no such kind) it fails at once.
//
// Every error is ErrNotDurable, and means that the caller must not do what depends on the entry. The entry may be in the
// log all the same, or get there later.
func (l *Log) Append(ctx context.Context, e Entry) (int64, error) {
	i, err := l.newItem(e)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	i.done = make(chan outcome, 1)
	if err := ctx.Err(); err != nil {
		return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	select {
	case <-l.closing:
		return -1, fmt.Errorf("%w: %w", ErrNotDurable, ErrStopped)
	default:
	}
	if err := l.queueOf(e.Type).put(ctx, l.closing, i); err != nil {
		return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	l.signal()
	select {
	case o := <-i.done:
		return o.index, o.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.stopped:
		err = ErrStopped
	}
	i.abandoned.Store(true)
	select {
	case o := <-i.done: // the answer came in the same moment
		return o.index, o.err
	default:
		return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
}

// Report is Append for what users cause at will, and nobody waits for: Found, CopyDetected and CopyEvicted. It is coalesced
// and capped as denials are (see Denials). Once it returns without an error, the entry is durable if it is Written, and
// counted otherwise; the count itself becomes durable within a minute or an hour, or is lost with the operator. Who tries
// again after an error must give the entry the same ID, so that it does not count as a repetition of itself.
func (l *Log) Report(ctx context.Context, e Entry) (Fate, error) {
	now := l.options.Clock.Now()
	e = e.complete(now, l.options.Identity)
	if !e.Type.caused() {
		return Written, fmt.Errorf("%w: entries of type %s are not capped", ErrNotDurable, e.Type)
	}
	entries, fate := l.observe(now, e)
	if fate != Written {
		l.submitAll(entries)
		return fate, nil
	}
	l.submitAll(entries[:len(entries)-1])
	_, err := l.Append(ctx, e)
	return fate, err
}

// observe lets Denials decide on an entry, and returns what is to be written.
func (l *Log) observe(now time.Time, e Entry) ([]Entry, Fate) {
	l.mu.Lock()
	entries, fate := l.denials.Observe(now, e)
	l.mu.Unlock()
	if fate == Capped {
		entriesCapped.WithLabelValues(string(e.Type)).Inc()
	}
	l.signal() // so that the end of this minute is waited for
	return entries, fate
}

// submitAll returns whether the last of the entries is queued.
func (l *Log) submitAll(entries []Entry) bool {
	taken := false
	for _, e := range entries {
		taken = l.submit(e)
	}
	return taken
}

// Submit hands an entry to the log and never waits: for webhooks, whose denials must not hang on the log. Entries that
// users cause at will are coalesced (see Denials), and what cannot be written is counted in a Gap entry.
func (l *Log) Submit(e Entry) { l.Offer(e) }

// Offer is Submit, and reports whether the entry is on its way to the log by itself, neither coalesced nor counted in a
// Gap entry.
func (l *Log) Offer(e Entry) bool {
	now := l.options.Clock.Now()
	if !e.Type.caused() {
		return l.submit(e)
	}
	e = e.complete(now, l.options.Identity)
	entries, fate := l.observe(now, e)
	taken := l.submitAll(entries) // an entry that is written comes last
	return taken && fate == Written
}

// submit returns whether the entry is queued.
func (l *Log) submit(e Entry) bool {
	i, err := l.newItem(e)
	if err != nil {
		l.options.Logger.Error(err, "Audit entry cannot be encoded", "type", e.Type)
		l.drop(string(e.Type), max(e.Count, 1))
		return false
	}
	i.lost = max(e.Count, 1)
	select {
	case <-l.closing:
		l.drop(string(e.Type), i.lost)
		return false
	default:
	}
	if !l.queueOf(e.Type).tryPut(i) {
		l.drop(string(e.Type), i.lost)
		return false
	}
	l.signal()
	return true
}

func (l *Log) drop(what string, count int64) {
	l.dropped.Add(count)
	entriesDropped.WithLabelValues(what).Add(float64(count))
}

func (l *Log) newItem(e Entry) (*item, error) {
	now := l.options.Clock.Now()
	e = e.complete(now, l.options.Identity)
	leaf, err := e.Canonical()
	if err != nil {
		return nil, err
	}
	return &item{
		entry: e, leaf: string(leaf), stored: storedBytes(string(leaf)),
		order: l.order.Add(1), queued: now,
	}, nil
}

// queueOf is the queue for entries of a type: the reserved one is for what a licensed pod waits for.
func (l *Log) queueOf(t Type) *queue {
	if t == KeyReleased || t == Admitted {
		return l.reserved
	}
	return l.ordinary
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
