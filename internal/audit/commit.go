package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// findEndTimeout bounds the search for the end of the log, which reads the names of all records if the head is missing.
const findEndTimeout = 5 * time.Minute

// errRefused means that the API server said no for good: trying again would not help.
var errRefused = errors.New("the API server refuses the audit record")

// commit writes a batch at the end of the log and returns the index of its first entry. It tries until it succeeds, the
// API server refuses, or ctx ends.
//
// A name belongs to whoever creates it first. When a create fails without a clear no, its record may exist, or may
// come into being later; so the same record is tried at the same name until that name is taken, by this batch (then it
// is committed) or by another writer's (then this one cannot be there any more, and moves on).
func (l *Log) commit(ctx context.Context, b *batch) (int64, error) {
	pause := retryPause{limit: l.options.MaxBackoff}
	lost := 0
	for {
		first, committed, err := l.attempt(ctx, b)
		switch {
		case err == nil && committed:
			l.lastCommit = l.options.Clock.Now()
			return first, nil
		case err == nil: // another writer's record: the cursor has moved on
			conflicts.Inc()
			l.lastConflict = l.options.Clock.Now()
			pause.reset()
			// Who has just lost by one record tries again at once, to be in time; who loses again may be far behind.
			if lost++; lost%2 == 1 {
				continue
			}
			if err = l.walkToEnd(ctx); err == nil {
				continue
			}
		case errors.Is(err, errRefused):
			writeErrors.WithLabelValues("refused").Inc()
			return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
		}
		writeErrors.WithLabelValues("retried").Inc()
		l.options.Logger.Error(err, "Writing an audit record failed, trying again", "record", RecordName(max(l.cursor, 0)),
			"entries", len(b.items))
		if err := l.sleep(ctx, pause.next()); err != nil {
			return -1, fmt.Errorf("%w: %w", ErrNotDurable, err)
		}
	}
}

// attempt tries once. Without an error, it says whether the batch was committed; if not, the cursor has moved to behind
// the record that was in the way.
func (l *Log) attempt(ctx context.Context, b *batch) (first int64, committed bool, err error) {
	if l.cursor < 0 {
		end, err := l.findEnd(ctx)
		if err != nil {
			return -1, false, err
		}
		l.cursor = end
	}
	first = l.cursor
	created := newRecord(first, b.summary, b.leaves)
	createErr := l.request(ctx, func(ctx context.Context) error { return l.options.Client.Create(ctx, created) })
	if createErr == nil {
		if l.options.Stamped != nil {
			l.options.Stamped(created.CreationTimestamp.Time)
		}
		l.cursor = first + int64(len(b.leaves))
		return first, true, nil
	}
	if refuses(createErr) {
		return -1, false, fmt.Errorf("%w: %w", errRefused, createErr)
	}
	record, err := l.get(ctx, RecordName(first))
	if err != nil {
		return -1, false, fmt.Errorf("create audit record %s: %w", RecordName(first), errors.Join(createErr, err))
	}
	l.cursor = recordEnd(record)
	if slices.Equal(record.Spec.Entries, b.leaves) {
		return first, true, nil
	}
	return -1, false, nil
}

// findEnd finds the end of the log: from the newest record that the head of the log names, or else from the last of
// all records.
func (l *Log) findEnd(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, findEndTimeout)
	defer cancel()
	end, err := End(ctx, l.options.Reader)
	if refuses(err) {
		return -1, fmt.Errorf("%w: find the end of the audit log: %w", errRefused, err)
	}
	return end, err
}

// walkToEnd moves the cursor over the records of other writers. An error in between only means that it got less far.
func (l *Log) walkToEnd(ctx context.Context) error {
	for ctx.Err() == nil {
		record, err := l.get(ctx, RecordName(l.cursor))
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		l.cursor = recordEnd(record)
	}
	return ctx.Err()
}

func (l *Log) get(ctx context.Context, name string) (record *v1alpha1.ModelAuditRecord, err error) {
	err = l.request(ctx, func(ctx context.Context) error {
		record, err = getRecord(ctx, l.options.Reader, name)
		return err
	})
	return record, err
}

func (l *Log) request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.options.RequestTimeout)
	defer cancel()
	return do(ctx)
}

// refuses reports whether an error says that a request was not, and will not be, carried out.
func refuses(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsUnsupportedMediaType(err) ||
		apierrors.IsNotAcceptable(err) || meta.IsNoMatchError(err)
}

// sleep waits by the log's clock, and fails if ctx ends first.
func (l *Log) sleep(ctx context.Context, d time.Duration) error {
	timer := l.options.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryPause doubles from 50 ms to its limit.
type retryPause struct{ last, limit time.Duration }

func (p *retryPause) next() time.Duration {
	p.last = min(max(2*p.last, 50*time.Millisecond), p.limit)
	return p.last
}

func (p *retryPause) reset() { p.last = 0 }
