package nodedriver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

const (
	// maxReports bounds what waits to be reported; the oldest give way. A node has some hundred pods.
	maxReports = 4096
	// maxReportAge is how old a report may grow. By then the seat has ended with its lease.
	maxReportAge = 2 * protocol.MaxLease
	reportSuffix = ".json"
)

// report is what the key service is still to be told. It holds no secret.
type report struct {
	// Sequence orders reports. It goes on over the driver's runs.
	Sequence uint64 `json:"sequence"`
	// Target is where the volume was.
	Target string          `json:"target"`
	Volume protocol.Volume `json:"volume"`
	Event  protocol.Event  `json:"event"`
	Reason v1alpha1.Reason `json:"reason,omitempty"`
	// BootID and At say when it happened, by the node's boot clock.
	BootID string        `json:"bootID"`
	At     time.Duration `json:"at"`
	// Time is when it was queued, by the wall clock. It decides nothing but when to give up.
	Time time.Time `json:"time"`

	attempts  int
	notBefore time.Duration
	// sending is held by whoever delivers it; done is set, under the queue's lock, once nobody needs to any more.
	sending sync.Mutex
	done    bool
}

// reports are those that wait, in memory and, so that they survive the driver, each in a file. It is safe for concurrent
// use.
type reports struct {
	// directory holds the files. It is created when it is needed; empty keeps reports in memory alone.
	directory string
	clock     BootClock
	wall      func() time.Time
	log       logr.Logger

	mu      sync.Mutex
	last    uint64
	waiting []*report // in order of Sequence
	// added has an element when there is something new to deliver.
	added chan struct{}
}

// newReports returns the reports that an earlier run left in a directory.
func newReports(directory string, clock BootClock, log logr.Logger) *reports {
	r := &reports{directory: directory, clock: clock, wall: time.Now, log: log, added: make(chan struct{}, 1)}
	if err := r.load(); err != nil {
		log.Error(err, "Reports of an earlier run cannot be read; seats of pods that ended then are free when their leases are over")
	}
	return r
}

// load reads what an earlier run left. Files that cannot be read are left where they are.
func (r *reports) load() error {
	if r.directory == "" {
		return nil
	}
	entries, err := os.ReadDir(r.directory)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the reports that wait: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), reportSuffix) {
			continue
		}
		read := &report{}
		content, err := os.ReadFile(filepath.Join(r.directory, entry.Name()))
		if err == nil {
			err = json.Unmarshal(content, read)
		}
		if err == nil && entry.Name() != read.file() {
			err = errors.New("it is not the report that its name says")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read report %s: %w", entry.Name(), err))
			continue
		}
		r.waiting = append(r.waiting, read)
		r.last = max(r.last, read.Sequence)
	}
	slices.SortFunc(r.waiting, func(a, b *report) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return errors.Join(errs...)
}

func (r *report) file() string { return fmt.Sprintf("%016x%s", r.Sequence, reportSuffix) }

// add queues a report. Where it cannot be kept on disk it is delivered all the same, unless the driver ends before that.
func (r *reports) add(target string, volume protocol.Volume, event protocol.Event, reason v1alpha1.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.waiting, func(w *report) bool { return w.Target == target && w.Event == event && w.Volume == volume }) {
		return
	}
	r.last++
	queued := &report{
		Sequence: r.last, Target: target, Volume: volume, Event: event, Reason: reason,
		BootID: r.clock.ID(), At: r.clock.Now(), Time: r.wall().UTC(),
	}
	r.waiting = append(r.waiting, queued)
	for len(r.waiting) > maxReports {
		r.log.Info("A report is given up: too many wait", "volume", r.waiting[0].Volume.Handle)
		r.dropLocked(r.waiting[0])
	}
	if err := r.store(queued); err != nil {
		r.log.Error(err, "A report cannot be kept on disk; it is lost if the driver ends before it is delivered", "volume", volume.Handle)
	}
	r.wake()
}

func (r *reports) wake() {
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// hurry has the reports on a target delivered without further delay.
func (r *reports) hurry(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waiting {
		if w.Target == target {
			w.notBefore = 0
		}
	}
	r.wake()
}

// wiped is the report that the key at a target was wiped, nil where none waits.
func (r *reports) wiped(target string) *report {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waiting {
		if w.Target == target && w.Event == protocol.Wiped {
			return w
		}
	}
	return nil
}

// store writes a report's file, whole or not at all.
func (r *reports) store(queued *report) error {
	if r.directory == "" {
		return nil
	}
	content, err := json.Marshal(queued)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(r.directory, 0o700); err != nil {
		return fmt.Errorf("create the directory of reports: %w", err)
	}
	path := filepath.Join(r.directory, queued.file())
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// drop forgets a report: it was delivered, or never will be.
func (r *reports) drop(done *report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(done)
}

func (r *reports) dropLocked(done *report) {
	r.waiting = slices.DeleteFunc(r.waiting, func(w *report) bool { return w == done })
	done.done = true
	if r.directory == "" {
		return
	}
	if err := os.Remove(filepath.Join(r.directory, done.file())); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.log.Error(err, "A report that is done with cannot be removed; it may be delivered again")
	}
}

// withdraw forgets that a volume was taken down: it is there again.
func (r *reports) withdraw(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range slices.Clone(r.waiting) {
		if w.Target == target && w.Event == protocol.Unpublished {
			r.dropLocked(w)
		}
	}
}

// ready lists at most so many reports that may be delivered now, none before an earlier one of its target, and how long it
// is until there are more.
func (r *reports) ready(most int) (now []*report, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = longestSleep
	begun := map[string]bool{}
	for _, w := range r.waiting {
		if begun[w.Target] {
			continue
		}
		begun[w.Target] = true
		wait := w.notBefore - r.clock.Now()
		switch {
		case wait > 0:
			next = min(next, wait)
		case len(now) < most:
			now = append(now, w)
		default:
			next = 0
		}
	}
	return now, next
}

// postpone has a report wait, longer each time.
func (r *reports) postpone(w *report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.notBefore = r.clock.Now() + backOff(w.attempts)
	w.attempts++
}

func (r *reports) isDone(w *report) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return w.done
}

func (r *reports) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// age is how long ago it happened, 0 where nobody can tell any more.
func (r *report) age(clock BootClock) time.Duration {
	if r.BootID != clock.ID() {
		return 0
	}
	return max(0, clock.Now()-r.At)
}

// backOff is a second, twice that after each attempt, and at most a minute.
func backOff(attempts int) time.Duration {
	return min(time.Second<<min(attempts, 6), time.Minute)
}
