package audit

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestFaults lets creates fail in every way, before and after they are committed, and expects every entry exactly once.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]createFunc{
		"cut before the commit": func(context.Context, client.WithWatch, client.Object) error { return errCut },
		"cut after the commit": func(ctx context.Context, c client.WithWatch, obj client.Object) error {
			return errors.Join(errCut, c.Create(ctx, obj))
		},
		"timeout before the commit": func(context.Context, client.WithWatch, client.Object) error { return errTimeout },
		"timeout after the commit": func(ctx context.Context, c client.WithWatch, obj client.Object) error {
			if err := c.Create(ctx, obj); err != nil {
				return err
			}
			return errTimeout
		},
		"deadline before the commit": func(context.Context, client.WithWatch, client.Object) error {
			return context.DeadlineExceeded
		},
		"deadline after the commit": func(ctx context.Context, c client.WithWatch, obj client.Object) error {
			if err := c.Create(ctx, obj); err != nil {
				return err
			}
			return context.DeadlineExceeded
		},
		"commit after the answer": func(_ context.Context, c client.WithWatch, obj client.Object) error {
			go func() { _ = c.Create(context.Background(), obj) }()
			return errTimeout
		},
		"too many requests": func(context.Context, client.WithWatch, client.Object) error {
			return apierrors.NewTooManyRequests("busy", 1)
		},
		"internal error": func(context.Context, client.WithWatch, client.Object) error {
			return apierrors.NewInternalError(errors.New("etcdserver: no leader"))
		},
		"another writer first": func(ctx context.Context, c client.WithWatch, obj client.Object) error {
			record := obj.(*v1alpha1.ModelAuditRecord)
			foreign, _ := release().complete(noon, "operator-1").Canonical()
			if err := c.Create(ctx, newRecord(record.Spec.FirstIndex, "foreign", []string{string(foreign), string(foreign)})); err != nil {
				return err
			}
			return c.Create(ctx, obj)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			var n atomic.Int64
			faulty := intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
				if n.Add(1)%2 == 1 {
					return fault(ctx, c, obj)
				}
				return c.Create(ctx, obj)
			})
			l := newLog(t, faulty)
			start(t, l)
			const appends = 20
			for i := range appends {
				index, err := l.Append(withTimeout(t, time.Minute), numbered(i))
				if err != nil {
					t.Fatalf("append %d: %v", i, err)
				}
				entries := readLog(t, c)
				if entries[index].Entry.ID != strconv.Itoa(i) || entries[index].Entry.Writer != "operator-0" {
					t.Fatalf("index %d holds entry %s of %s, want %d", index, entries[index].Entry.ID, entries[index].Entry.Writer, i)
				}
			}
			seen := ids(readLog(t, c))
			for i := range appends {
				if seen[strconv.Itoa(i)] != 1 {
					t.Errorf("entry %d is %d times in the log", i, seen[strconv.Itoa(i)])
				}
			}
		})
	}
}

// TestRefusalFailsAtOnce: no permission is no reason to keep a pod waiting.
func TestRefusalFailsAtOnce(t *testing.T) {
	for name, refusal := range map[string]error{
		"forbidden": apierrors.NewForbidden(records, "x", errors.New("no")),
		"invalid":   apierrors.NewInvalid(schema.GroupKind{Kind: "ModelAuditRecord"}, "x", nil),
		"no kind":   apierrors.NewNotFound(records, ""),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			var refusing atomic.Bool
			refusing.Store(true)
			l := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
				if refusing.Load() {
					return refusal
				}
				return c.Create(ctx, obj)
			}))
			start(t, l)
			_, err := l.Append(withTimeout(t, time.Minute), release())
			if !errors.Is(err, ErrNotDurable) || errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refusal) {
				t.Errorf("append: %v", err)
			}
			refusing.Store(false)
			if index, err := l.Append(withTimeout(t, time.Minute), release()); err != nil || index != 0 {
				t.Errorf("append after the refusal: %d, %v", index, err)
			}
		})
	}
}

// TestNeverDurableWithoutCommit: while nothing is committed, no Append may say otherwise.
func TestNeverDurableWithoutCommit(t *testing.T) {
	c := newClient(t)
	var attempts atomic.Int64
	l := newLog(t, intercept(c, func(context.Context, client.WithWatch, client.Object) error {
		attempts.Add(1)
		return errCut
	}), func(o *Options) { o.FlushTimeout = 50 * time.Millisecond })
	stop := start(t, l)
	index, err := l.Append(withTimeout(t, time.Second), release()) // long enough for two attempts on any machine
	if !errors.Is(err, ErrNotDurable) || !errors.Is(err, context.DeadlineExceeded) || index != -1 {
		t.Errorf("append: %d, %v", index, err)
	}
	if attempts.Load() < 2 {
		t.Errorf("%d attempts", attempts.Load())
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(cancelled, release()); !errors.Is(err, ErrNotDurable) || !errors.Is(err, context.Canceled) {
		t.Errorf("append with a cancelled context: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), release())
		waiting <- err
	}()
	stop()
	if err := <-waiting; !errors.Is(err, ErrNotDurable) {
		t.Errorf("append when the log stops: %v", err)
	}
	if _, err := l.Append(t.Context(), release()); !errors.Is(err, ErrStopped) || !errors.Is(err, ErrNotDurable) {
		t.Errorf("append after the log has stopped: %v", err)
	}
	if entries := readLog(t, c); len(entries) != 0 {
		t.Errorf("the log has %d entries", len(entries))
	}
}

// TestCancelledWhileCommitted: the caller gave up, the entry stands; the log tells of more releases, never of fewer.
func TestCancelledWhileCommitted(t *testing.T) {
	c := newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
		cancel()
		<-time.After(20 * time.Millisecond)
		return c.Create(ctx, obj)
	}))
	stop := start(t, l)
	if _, err := l.Append(ctx, release()); !errors.Is(err, ErrNotDurable) {
		t.Errorf("append: %v", err)
	}
	stop()
	if entries := readLog(t, c); len(entries) != 1 {
		t.Errorf("the log has %d entries, want the one that was under way", len(entries))
	}
}

// TestKilledBetweenCommitAndAnswer kills the operator after the API server committed, before it learnt of that. Its
// successor goes on behind the entry, and the caller's retry is recognised by its ID.
func TestKilledBetweenCommitAndAnswer(t *testing.T) {
	c := newClient(t)
	committed := make(chan struct{})
	killed := newLog(t, interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			if err := c.Create(ctx, obj); err != nil {
				return err
			}
			close(committed)
			<-ctx.Done() // the answer never comes
			return ctx.Err()
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return errors.Join(ctx.Err(), c.Get(ctx, key, obj, opts...))
		},
	}), func(o *Options) { o.FlushTimeout = time.Millisecond })
	stop := start(t, killed)
	admitted := release()
	admitted.Type = Admitted
	answer := make(chan error, 1)
	go func() {
		_, err := killed.Append(context.Background(), admitted)
		answer <- err
	}()
	<-committed
	stop()
	if err := <-answer; !errors.Is(err, ErrNotDurable) {
		t.Errorf("append in the killed operator: %v", err)
	}

	successor := newLog(t, c, func(o *Options) { o.Identity = "operator-1" })
	start(t, successor)
	index, err := successor.Append(withTimeout(t, time.Minute), admitted)
	if err != nil || index != 1 {
		t.Fatalf("append in the successor: %d, %v", index, err)
	}
	entries := readLog(t, c)
	if len(entries) != 2 || entries[0].Entry.ID != entries[1].Entry.ID || entries[0].Entry.Writer == entries[1].Entry.Writer {
		t.Errorf("entries %+v", entries)
	}
}
