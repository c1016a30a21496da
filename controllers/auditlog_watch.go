package controllers

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/internal/audit"
)

// recordWatch follows the audit records from now on and remembers two things of them, whatever their number: it is a
// bare watch of metadata without a cache behind it, since a log has a million records and more.
type recordWatch struct {
	live  client.WithWatch
	clock clock.Clock
	// newest is the first index of the newest record that was created since the watch began, or -1.
	newest atomic.Int64
	// suspicious is set when something happened that does not happen to a log: a record was removed, or created
	// elsewhere than at the end.
	suspicious atomic.Bool
	// begun is set when the watch begins, so that this may have happened unseen before.
	begun atomic.Bool
}

func newRecordWatch(live client.WithWatch, clock clock.Clock) *recordWatch {
	w := &recordWatch{live: live, clock: clock}
	w.newest.Store(-1)
	return w
}

// run watches until ctx ends, and calls changed after every change and whenever the watch begins anew.
func (w *recordWatch) run(ctx context.Context, changed func(recount bool)) {
	const shortest, longest = time.Second, 30 * time.Second
	pause := shortest
	for ctx.Err() == nil {
		begun := w.clock.Now()
		if err := w.once(ctx, changed); err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).V(1).Info("Watch of the audit records ended", "reason", err.Error())
		}
		if w.clock.Since(begun) > longest {
			pause = shortest
		}
		timer := w.clock.NewTimer(pause)
		select {
		case <-timer.C():
		case <-ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, longest)
	}
}

func (w *recordWatch) once(ctx context.Context, changed func(recount bool)) error {
	_, version, err := audit.Count(ctx, w.live)
	if err != nil {
		return err
	}
	events, err := w.live.Watch(ctx, audit.NewNameList(), &client.ListOptions{
		Raw: &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true},
	})
	if err != nil {
		return fmt.Errorf("watch audit records: %w", err)
	}
	defer events.Stop()
	w.begun.Store(true)
	changed(true)
	for event := range events.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Deleted:
			if err := w.observe(event); err != nil {
				return err
			}
			changed(false)
		case watch.Error:
			return apierrors.FromObject(event.Object)
		}
	}
	return nil
}

func (w *recordWatch) observe(event watch.Event) error {
	record, err := meta.Accessor(event.Object)
	if err != nil {
		return fmt.Errorf("watch audit records: %w", err)
	}
	index, err := audit.RecordIndex(record.GetName())
	if err != nil {
		return err
	}
	if event.Type == watch.Deleted || index <= w.newest.Load() {
		w.suspicious.Store(true)
	}
	if event.Type == watch.Added {
		w.newest.Store(max(index, w.newest.Load()))
	}
	return nil
}
