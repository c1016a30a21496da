package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func queued(t *testing.T, q *queue, n int, entryType Type, stored int, order *uint64) {
	t.Helper()
	for range n {
		*order++
		i := &item{entry: Entry{Type: entryType}, leaf: string(entryType), stored: stored, order: *order}
		if !q.tryPut(i) {
			t.Fatal("queue is full")
		}
	}
}

func TestReleasesHaveHalfOfEveryRecord(t *testing.T) {
	for name, test := range map[string]struct {
		releases, others, stored int
		wantReleases, wantOthers int
	}{
		"few of both":          {3, 4, 100, 3, 4},
		"many of both":         {1000, 1000, 100, 128, 128},
		"many others":          {5, 1000, 100, 5, 251},
		"many releases":        {1000, 5, 100, 251, 5},
		"only releases":        {1000, 0, 100, 256, 0},
		"only others":          {0, 1000, 100, 0, 256},
		"large, many of both":  {1000, 1000, 8192, 48, 48},
		"large, many others":   {5, 1000, 8192, 5, 91},
		"large, many releases": {1000, 5, 8192, 91, 5},
	} {
		t.Run(name, func(t *testing.T) {
			reserved, ordinary := newQueue(1000), newQueue(1000)
			var order uint64
			queued(t, ordinary, test.others, Denied, test.stored, &order)
			queued(t, reserved, test.releases, KeyReleased, test.stored, &order)
			b := takeBatch(reserved, ordinary)
			var releases, others, bytes int
			for n, i := range b.items {
				if i.entry.Type == KeyReleased {
					releases++
				} else {
					others++
				}
				bytes += i.stored
				if n > 0 && b.items[n-1].order >= i.order {
					t.Error("entries do not stand in the order in which they came")
				}
			}
			if releases != test.wantReleases || others != test.wantOthers || bytes > maxRecordBytes {
				t.Errorf("%d releases and %d others with %d bytes, want %d and %d", releases, others, bytes, test.wantReleases, test.wantOthers)
			}
			if reserved.len() != test.releases-releases || ordinary.len() != test.others-others {
				t.Errorf("%d and %d are left", reserved.len(), ordinary.len())
			}
		})
	}
}

func TestNothingToTake(t *testing.T) {
	if b := takeBatch(newQueue(1), newQueue(1)); b != nil {
		t.Errorf("took %+v", b)
	}
}

func TestAbandonedItemsAreDropped(t *testing.T) {
	reserved, ordinary := newQueue(2), newQueue(2)
	var order uint64
	queued(t, reserved, 2, KeyReleased, 10, &order)
	reserved.items[0].abandoned.Store(true)
	b := takeBatch(reserved, ordinary)
	if len(b.items) != 1 || b.items[0].order != 2 {
		t.Errorf("took %d items", len(b.items))
	}
	queued(t, reserved, 2, KeyReleased, 10, &order) // both slots are free again
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(1)
	if !q.tryPut(&item{}) || q.tryPut(&item{}) {
		t.Fatal("the queue does not hold exactly one item")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.put(ctx, nil, &item{}); !errors.Is(err, context.Canceled) {
		t.Errorf("put in a full queue with a cancelled context: %v", err)
	}
	stopped := make(chan struct{})
	close(stopped)
	if err := q.put(t.Context(), stopped, &item{}); !errors.Is(err, ErrStopped) {
		t.Errorf("put in a full queue of a stopped log: %v", err)
	}
}

// TestLargestRecord fills a record with what escapes worst.
func TestLargestRecord(t *testing.T) {
	for name, text := range map[string]string{"markup": "<>&", "quotes": `"`, "plain": "x", "wide": "𝕏"} {
		t.Run(name, func(t *testing.T) {
			reserved, ordinary := newQueue(1000), newQueue(1000)
			long := strings.Repeat(text, MaxLeafBytes)
			for range 300 {
				e := Entry{Type: Denied, Images: []string{long, long}, Message: long, Actor: long, Pod: Object{Name: long}, Node: long, Owner: Owner{Name: long}}
				leaf, err := e.complete(noon, "w").Canonical()
				if err != nil {
					t.Fatal(err)
				}
				ordinary.tryPut(&item{leaf: string(leaf), stored: storedBytes(string(leaf))})
			}
			for ordinary.len() > 0 {
				b := takeBatch(reserved, ordinary)
				size := len(mustJSON(t, newRecord(0, b.summary, b.leaves)))
				if size > maxRecordBytes+2048 {
					t.Errorf("a record of %d entries has %d bytes in etcd", len(b.leaves), size)
				}
			}
		})
	}
}
