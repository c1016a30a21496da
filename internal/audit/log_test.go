package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func TestNewNeedsItsOptions(t *testing.T) {
	c := newClient(t)
	for name, options := range map[string]Options{
		"no client":   {Reader: c, Identity: "x"},
		"no reader":   {Client: c, Identity: "x"},
		"no identity": {Client: c, Reader: c},
	} {
		if _, err := New(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAppendIsInTheLog(t *testing.T) {
	c := newClient(t)
	l := newLog(t, c)
	start(t, l)
	for want := range int64(5) {
		index, err := l.Append(withTimeout(t, time.Minute), release())
		if err != nil || index != want {
			t.Fatalf("append: index %d, %v, want %d", index, err, want)
		}
		entries := readLog(t, c)
		if int64(len(entries)) != want+1 {
			t.Fatalf("Append returned, and the log has %d entries", len(entries))
		}
		got := entries[want].Entry
		if got.Type != KeyReleased || got.Writer != "operator-0" || got.Version != 1 || got.ID == "" || got.Time.IsZero() {
			t.Errorf("entry %+v", got)
		}
	}
}

func TestStartTwice(t *testing.T) {
	l := newLog(t, newClient(t))
	start(t, l)
	if _, err := l.Append(withTimeout(t, time.Minute), release()); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); err == nil {
		t.Error("a log was started twice")
	}
	if l.NeedLeaderElection() {
		t.Error("only the leader would write")
	}
}

func TestAppendsShareRecords(t *testing.T) {
	c := newClient(t)
	var creates atomic.Int64
	counting := intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
		creates.Add(1)
		return c.Create(ctx, obj)
	})
	l := newLog(t, counting, func(o *Options) { o.Linger = 50 * time.Millisecond })
	const n = 1000
	var wg sync.WaitGroup
	indexes := make([]int64, n)
	for i := range n {
		wg.Go(func() {
			index, err := l.Append(withTimeout(t, time.Minute), numbered(i))
			if err != nil {
				t.Errorf("append: %v", err)
			}
			indexes[i] = index
		})
	}
	start(t, l)
	wg.Wait()
	if got := creates.Load(); got > n/10 {
		t.Errorf("%d records for %d entries", got, n)
	}
	entries := readLog(t, c)
	if len(entries) != n {
		t.Fatalf("%d entries, want %d", len(entries), n)
	}
	for i, index := range indexes {
		if entries[index].Entry.ID != strconv.Itoa(i) {
			t.Errorf("entry %d is not at the index %d that Append returned", i, index)
		}
	}
}

func TestFlushOnStop(t *testing.T) {
	c := newClient(t)
	l := newLog(t, c, func(o *Options) { o.Linger = time.Hour })
	stop := start(t, l)
	for n := range 10 {
		e := denial("ml", "llm", fmt.Sprintf("a:%d", n))
		e.ID = strconv.Itoa(n)
		l.Submit(e)
	}
	repeated := denial("ml", "llm", "a:0")
	l.Submit(repeated)
	stop()
	entries := readLog(t, c)
	if len(entries) != 11 || entries[10].Entry.Type != DenialsRepeated {
		t.Errorf("%d entries were flushed, want 10 denials and what was repeated", len(entries))
	}
}

// TestFloodOfDenials fills the ordinary queue while nothing can be written: releases still get in, and the log says how
// much it left out.
func TestFloodOfDenials(t *testing.T) {
	c := newClient(t)
	blocked := make(chan struct{})
	l := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
		<-blocked
		return c.Create(ctx, obj)
	}), func(o *Options) {
		o.QueueSize = 500
		lots := Rate{Burst: 1 << 30, Hourly: 1 << 30}
		o.Denials = DenialLimits{Namespace: lots, Total: lots}
	})
	stop := start(t, l)
	const denials = 3000
	for n := range denials {
		l.Submit(denial("ml", "llm", fmt.Sprintf("a:%d", n))) // must not block
	}
	released := make(chan error, 1)
	go func() {
		_, err := l.Append(withTimeout(t, time.Minute), release())
		released <- err
	}()
	NewWithT(t).Eventually(l.reserved.len).WithTimeout(time.Minute).Should(Equal(1))
	close(blocked)
	if err := <-released; err != nil {
		t.Fatalf("release during a flood: %v", err)
	}
	stop()
	var written, dropped int64
	for _, e := range readLog(t, c) {
		switch e.Entry.Type {
		case Denied:
			written++
		case Gap:
			dropped += e.Entry.Count
			if e.Entry.Reason != v1alpha1.ReasonEntriesDropped {
				t.Errorf("gap %+v", e.Entry)
			}
		}
	}
	if written+dropped != denials || dropped == 0 {
		t.Errorf("%d denials were written, gap entries tell of %d, of %d", written, dropped, denials)
	}
}

// TestRefusedDenialsAreToldLater: what could not be written is told when writing works again.
func TestRefusedDenialsAreToldLater(t *testing.T) {
	c := newClient(t)
	var refused atomic.Int64
	var refusing atomic.Bool
	refusing.Store(true)
	l := newLog(t, intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
		if refusing.Load() {
			refused.Add(1)
			return apierrors.NewForbidden(records, "x", errors.New("no"))
		}
		return c.Create(ctx, obj)
	}))
	stop := start(t, l)
	for n := range 7 {
		l.Submit(denial("ml", "llm", fmt.Sprintf("a:%d", n)))
	}
	for l.dropped.Load() < 7 {
		if _, err := l.Append(withTimeout(t, time.Minute), release()); err == nil {
			t.Fatal("appended without permission")
		}
	}
	refusing.Store(false)
	stop()
	entries := readLog(t, c)
	if len(entries) != 1 || entries[0].Entry.Type != Gap || entries[0].Entry.Count != 7 {
		t.Errorf("entries %+v", entries)
	}
}

// TestWriters lets several replicas write at once, some of whose requests fail before or after the commit.
func TestWriters(t *testing.T) {
	c := newClient(t)
	const writers, each = 4, 200
	var wg sync.WaitGroup
	for w := range writers {
		var n atomic.Int64
		faulty := intercept(c, func(ctx context.Context, c client.WithWatch, obj client.Object) error {
			switch n.Add(1) % 7 {
			case 2:
				return errCut
			case 4:
				return errors.Join(errCut, c.Create(ctx, obj))
			}
			return c.Create(ctx, obj)
		})
		l := newLog(t, faulty, func(o *Options) { o.Identity = fmt.Sprintf("operator-%d", w) })
		start(t, l)
		for i := range each {
			wg.Go(func() {
				if _, err := l.Append(withTimeout(t, time.Minute), numbered(w*each+i)); err != nil {
					t.Errorf("append: %v", err)
				}
			})
		}
	}
	wg.Wait()
	entries := readLog(t, c)
	seen := ids(entries)
	for i := range writers * each {
		if seen[strconv.Itoa(i)] != 1 {
			t.Errorf("entry %d is %d times in the log", i, seen[strconv.Itoa(i)])
		}
	}
	if len(entries) != writers*each {
		t.Errorf("%d entries, want %d", len(entries), writers*each)
	}
}

// TestStartFinds starts on logs that are there already.
func TestStartFinds(t *testing.T) {
	put := func(t *testing.T, c client.Client, first int64, n int) {
		t.Helper()
		leaf, err := release().complete(noon, "before").Canonical()
		if err != nil {
			t.Fatal(err)
		}
		leaves := make([]string, n)
		for i := range leaves {
			leaves[i] = string(leaf)
		}
		if err := c.Create(t.Context(), newRecord(first, "before", leaves)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		sizes []int
		head  string // of the head's last record; "-" for no head
		size  int64  // of the head
		want  int64
	}{
		"nothing":                     {nil, "-", 0, 0},
		"an empty head":               {nil, "", 0, 0},
		"no head":                     {[]int{3, 1, 256}, "-", 0, 260},
		"a head that is up to date":   {[]int{3, 1, 256}, RecordName(4), 260, 260},
		"a head that lags":            {[]int{3, 1, 256}, RecordName(0), 3, 260},
		"a head that names no record": {[]int{3, 1, 256}, RecordName(2), 3, 260},
		"a head beyond the end":       {[]int{3, 1, 256}, RecordName(1000), 260, 260},
		"a head that names nonsense":  {[]int{3, 1, 256}, "nonsense", 3, 260},
		"a head that knows of more":   {[]int{3, 1, 256}, RecordName(300), 310, 310},
		"a log that was emptied":      {nil, RecordName(300), 310, 310},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			first := int64(0)
			for _, n := range test.sizes {
				put(t, c, first, n)
				first += int64(n)
			}
			if test.head != "-" {
				head := &v1alpha1.ModelAuditLog{}
				head.Name = v1alpha1.AuditLogName
				if err := c.Create(t.Context(), head); err != nil {
					t.Fatal(err)
				}
				head.Status.LastRecord, head.Status.Size = test.head, &test.size
				if err := c.Status().Update(t.Context(), head); err != nil {
					t.Fatal(err)
				}
			}
			l := newLog(t, c)
			start(t, l)
			if index, err := l.Append(withTimeout(t, time.Minute), release()); err != nil || index != test.want {
				t.Errorf("append: %d, %v, want %d", index, err, test.want)
			}
		})
	}
}

// TestUnreadableStart: as long as the end of the log is not known nothing is written.
func TestUnreadableStart(t *testing.T) {
	c := newClient(t)
	var readable atomic.Bool
	faulty := interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if !readable.Load() {
				return errCut
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	l := newLog(t, faulty)
	start(t, l)
	if _, err := l.Append(withTimeout(t, 20*time.Millisecond), release()); !errors.Is(err, ErrNotDurable) {
		t.Errorf("append: %v", err)
	}
	if entries := readLog(t, c); len(entries) != 0 {
		t.Errorf("%d entries were written", len(entries))
	}
	readable.Store(true)
	if _, err := l.Append(withTimeout(t, time.Minute), release()); err != nil {
		t.Errorf("append: %v", err)
	}
}

// TestSubmitWritesOtherTypes: what is not a denial is not coalesced.
func TestSubmitWritesOtherTypes(t *testing.T) {
	c := newClient(t)
	l := newLog(t, c)
	stop := start(t, l)
	for range 3 {
		l.Submit(Entry{Type: GrantChanged, Namespace: "ml", Grant: Object{Name: "g", UID: "u", Generation: 1}})
	}
	stop()
	if entries := readLog(t, c); len(entries) != 3 {
		t.Errorf("%d entries", len(entries))
	}
}
