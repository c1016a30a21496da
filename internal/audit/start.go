package audit

import (
	"context"
	"fmt"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Start writes what is appended until ctx ends, and then what is still queued, for at most FlushTimeout. It implements
// manager.Runnable, and may be called once.
func (l *Log) Start(ctx context.Context) error {
	if !l.started.CompareAndSwap(false, true) {
		return fmt.Errorf("audit log is started twice")
	}
	// Requests under way outlive ctx: their answers tell whether entries are in the log.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := l.options.Clock.NewTimer(l.options.FlushTimeout)
		defer timer.Stop()
		select {
		case <-timer.C():
			cancel()
		case <-work.Done():
		}
	})()

	for ctx.Err() == nil {
		l.flushDenials(false)
		l.reportDropped(false)
		if due, ok := l.due(); !ok || l.options.Clock.Now().Before(due) {
			l.wait(ctx, due, ok)
			continue
		}
		l.write(work)
	}

	l.flushDenials(true)
	close(l.closing)
	l.reportDropped(true)
	for work.Err() == nil && l.write(work) {
	}
	close(l.stopped)
	return nil
}

// NeedLeaderElection says that every replica writes to the log.
func (l *Log) NeedLeaderElection() bool { return false }

const (
	// contention is how long a conflict shows that other replicas write, too.
	contention = 5 * time.Second
	// gather is how long the first entry after a quiet time waits for others of the same moment, as the several reasons of
	// one denial.
	gather = 2 * time.Millisecond
	// spare is how many records are written without lingering after a quiet time: as many as a pod's start and its
	// predecessor's end need. Under load it is one each Linger, as without.
	spare = 4
	// burst is how many entries are enough for a record of their own when the last one had no more.
	burst = 32
)

// due is when the next record is to be written, and false if there is nothing to write. After a quiet time that is at
// once; else when the oldest entry, or the log since its last records, has lingered. A full record does not wait, nor one
// with as many entries as the last, since whoever waited for those has come back.
//
// While other replicas write, too, this one lets them have a turn between two such records: who has just written knows
// the end of the log first, and would always win.
func (l *Log) due() (time.Time, bool) {
	reserved, anyReserved := l.reserved.oldest()
	ordinary, anyOrdinary := l.ordinary.oldest()
	oldest := reserved
	switch {
	case !anyReserved && !anyOrdinary:
		return time.Time{}, false
	case l.reserved.len()+l.ordinary.len() >= min(max(burst, l.lastSize), MaxRecordEntries):
		if l.options.Clock.Since(l.lastConflict) < contention {
			return l.lastCommit.Add(l.options.Linger / 4), true
		}
		return time.Time{}, true
	case !anyReserved || anyOrdinary && ordinary.Before(reserved):
		oldest = ordinary
	}
	lingered, quiet := oldest.Add(l.options.Linger), l.settled.Add(-(spare-1)*l.options.Linger)
	if atOnce := oldest.Add(min(gather, l.options.Linger)); quiet.Before(atOnce) {
		return atOnce, true
	}
	if quiet.Before(lingered) {
		return quiet, true
	}
	return lingered, true
}

// wait waits until something is appended, until due, until the minute of the denials ends, and until dropped entries
// may be reported; the first of them.
func (l *Log) wait(ctx context.Context, due time.Time, isDue bool) {
	l.mu.Lock()
	minute, denied := l.denials.Due()
	l.mu.Unlock()
	if denied && (!isDue || minute.Before(due)) {
		due, isDue = minute, true
	}
	if l.dropped.Load() > 0 && (!isDue || l.nextGap.Before(due)) {
		due, isDue = l.nextGap, true
	}
	var fired <-chan time.Time
	if isDue {
		timer := l.options.Clock.NewTimer(due.Sub(l.options.Clock.Now()))
		defer timer.Stop()
		fired = timer.C()
	}
	select {
	case <-fired:
	case <-l.wake:
	case <-ctx.Done():
	}
}

// write commits one batch, and returns false if there was none.
func (l *Log) write(ctx context.Context) bool {
	b := takeBatch(l.reserved, l.ordinary)
	l.gauge()
	if b == nil {
		return false
	}
	first, err := l.commit(ctx, b)
	l.lastSize = len(b.items)
	l.settle()
	if err != nil {
		l.options.Logger.Error(err, "Audit entries were not written", "entries", len(b.items))
		for _, i := range b.items {
			if i.lost > 0 {
				l.drop(string(i.entry.Type), i.lost)
			}
		}
		b.finish(-1, err)
		return true
	}
	now := l.options.Clock.Now()
	recordsWritten.Inc()
	for _, i := range b.items {
		entriesWritten.WithLabelValues(string(i.entry.Type)).Inc()
		name := queueOrdinary
		if l.queueOf(i.entry.Type) == l.reserved {
			name = queueReserved
		}
		appendSeconds.WithLabelValues(name).Observe(now.Sub(i.queued).Seconds())
	}
	b.finish(first, nil)
	return true
}

// settle counts a record that was written just now.
func (l *Log) settle() {
	now := l.options.Clock.Now()
	if l.settled.Before(now) {
		l.settled = now
	}
	l.settled = l.settled.Add(l.options.Linger)
	if most := now.Add(spare * l.options.Linger); l.settled.After(most) {
		l.settled = most
	}
}

func (l *Log) gauge() {
	queueLength.WithLabelValues(queueReserved).Set(float64(l.reserved.len()))
	queueLength.WithLabelValues(queueOrdinary).Set(float64(l.ordinary.len()))
}

// flushDenials queues what denials left to say when their minute ended, or at once.
func (l *Log) flushDenials(atOnce bool) {
	now := l.options.Clock.Now()
	l.mu.Lock()
	entries := l.denials.Flush(now)
	if atOnce {
		entries = append(entries, l.denials.FlushAll(now)...)
	}
	l.mu.Unlock()
	for _, e := range entries {
		l.submit(e)
	}
}

// reportDropped queues a Gap entry for what was dropped since the last one: at once, or once a minute, so that a log
// that cannot be written is not asked without end.
func (l *Log) reportDropped(atOnce bool) {
	now := l.options.Clock.Now()
	if now.Before(l.nextGap) && !atOnce {
		return
	}
	count := l.dropped.Swap(0)
	if count == 0 {
		return
	}
	l.nextGap = now.Add(time.Minute)
	i, err := l.newItem(Entry{
		Type: Gap, Reason: v1alpha1.ReasonEntriesDropped, Count: count,
		Message: fmt.Sprintf("%d entries could not be written, because the log was overloaded or not writable", count),
	})
	if err == nil {
		i.lost = count
	}
	if err != nil || !l.ordinary.tryPut(i) {
		l.dropped.Add(count)
	}
}
