// Package seatbook stores seat ledgers: Book writes them, for whoever changes them, and View shows them to everybody.
// What a ledger is and how it changes stands in package seats.
package seatbook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/seats"
)

var (
	// ErrUndecodable is in the error of Do when the stored ledger cannot be understood: somebody changed it by hand.
	// Nothing is taken then, and nothing written. Once the object is deleted, a new ledger begins, and pods that run are
	// adopted.
	ErrUndecodable = errors.New("the seat ledger cannot be understood")
	// ErrNotStored is in every other error of Do: the changes may be in the ledger or not, now or in a moment. Do them again.
	ErrNotStored = errors.New("the seat ledger is not known to be written")
)

// Options are what New needs.
type Options struct {
	// Client writes ledgers. Required. It needs create, update and delete on modelseats.
	Client client.Client
	// Reader reads from the API server itself, without a cache: manager.GetAPIReader(). Required. It needs get on modelseats
	// and modellicenses.
	Reader client.Reader
	// RequestTimeout bounds one request to the API server. Default 10 s.
	RequestTimeout time.Duration
	// MaxBackoff bounds the pause between attempts while the API server cannot be reached. Default 2 s.
	MaxBackoff time.Duration
	// Writers is how many licences are written for at a time. Default 8.
	Writers int
	// Remembered is how many ledgers are kept in memory as they were last written, so that the next write needs no read.
	// Default 64.
	Remembered int
	// View is what informers show, from which a write begins where that is newer than what is remembered: the replicas write
	// by turns, and each would else hear of the other's writes by a conflict. Default: none.
	View *View
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Book writes seat ledgers by compare-and-swap. Every replica may have one.
//
// While a ledger is being written, further changes to it gather and go into the next write together: so a burst of a
// thousand changes costs a handful of writes.
type Book struct {
	options Options
	metrics *bookMetrics
	writers chan struct{}

	mu     sync.Mutex
	queues map[string]*queue
	memory *memory
}

// queue are the calls that wait for a licence's ledger. A goroutine works on it as long as there are any.
type queue struct{ waiting []*call }

// call is one Do on its way.
type call struct {
	ctx     context.Context //nolint:containedctx // the writer asks whether the caller still waits
	changes []seats.Change
	done    chan outcome
	// abandoned is set once the caller has gone: what was not begun is not done then.
	abandoned atomic.Bool
}

type outcome struct {
	results []seats.Result
	err     error
}

// New returns a Book.
func New(options Options) *Book {
	setDefault(&options.RequestTimeout, 10*time.Second)
	setDefault(&options.MaxBackoff, 2*time.Second)
	setDefault(&options.Writers, 8)
	setDefault(&options.Remembered, 64)
	return &Book{
		options: options, metrics: newBookMetrics(options.Registerer), writers: make(chan struct{}, options.Writers),
		queues: map[string]*queue{}, memory: newMemory(options.Remembered),
	}
}

func setDefault[T int | time.Duration](value *T, byDefault T) {
	if *value <= 0 {
		*value = byDefault
	}
}

// Do applies changes to the ledger of a licence, in order and in one write, and returns what came of each. It creates the
// ledger where a Take, an Adopt or a Limit needs it, and while the licence exists. Callers at the same time share writes.
//
// The error is nil only when everything is stored in etcd, or the ledger there makes it certain that nothing had to
// change. After an error the changes may have been stored all the same, so do them again; who had an End stored without
// knowing finds no Result.Ended then. Give ctx a deadline: Do tries for as long as it lasts.
func (b *Book) Do(ctx context.Context, license string, changes ...seats.Change) ([]seats.Result, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotStored, context.Cause(ctx))
	}
	c := &call{ctx: ctx, changes: changes, done: make(chan outcome, 1)}
	b.mu.Lock()
	q, working := b.queues[license]
	if !working {
		q = &queue{}
		b.queues[license] = q
	}
	q.waiting = append(q.waiting, c)
	b.mu.Unlock()
	if !working {
		go b.work(license, q)
	}
	select {
	case o := <-c.done:
		return o.results, o.err
	case <-ctx.Done():
	}
	c.abandoned.Store(true)
	select {
	case o := <-c.done: // the answer came in the same moment
		return o.results, o.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrNotStored, context.Cause(ctx))
	}
}

// Newest is the ledger of a licence as this Book wrote it last, or as the View shows it where that is newer; nil where it is
// not remembered what was written. Others may have written it since. It must not be changed: Clone it.
func (b *Book) Newest(license string) *seats.Ledger {
	if _, remembered := b.memory.get(license); !remembered {
		return nil
	}
	s, _ := b.newest(license)
	return s.ledger
}

// work writes for a licence until nobody waits.
func (b *Book) work(license string, q *queue) {
	for {
		b.writers <- struct{}{}
		calls := b.next(license, q)
		if calls == nil {
			<-b.writers
			return
		}
		b.commit(license, calls)
		<-b.writers
	}
}

// next are the calls of the next write; nil once nobody waits, and then the queue is gone.
func (b *Book) next(license string, q *queue) []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := waiting(q.waiting)
	q.waiting = nil
	if len(calls) == 0 {
		delete(b.queues, license)
		return nil
	}
	return calls
}

// waiting are those of the calls whose callers have not gone.
func waiting(calls []*call) []*call {
	var out []*call
	for _, c := range calls {
		if !c.abandoned.Load() && c.ctx.Err() == nil {
			out = append(out, c)
		}
	}
	return out
}
