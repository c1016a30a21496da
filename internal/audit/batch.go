package audit

import (
	"slices"
)

// batch is what goes into one record. It never changes once it has been tried, since a try whose answer was lost may
// have been committed.
type batch struct {
	items   []*item
	leaves  []string
	summary string
}

// takeBatch takes a record's worth of items from the queues: half of the record is for the reserved queue if it needs it, what
// it leaves is for the others, and what those leave is for it again. Within a record, entries stand in the order in which
// they came. It returns nil if the queues are empty.
func takeBatch(reserved, ordinary *queue) *batch {
	half := budget{entries: MaxRecordEntries / 2, bytes: maxRecordBytes / 2}
	items := reserved.take(&half)
	rest := budget{entries: MaxRecordEntries, bytes: maxRecordBytes}
	for _, i := range items {
		rest.use(i)
	}
	items = append(items, ordinary.take(&rest)...)
	items = append(items, reserved.take(&rest)...)
	if len(items) == 0 {
		return nil
	}
	slices.SortFunc(items, func(a, b *item) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	b := &batch{items: items, summary: Summary(items[0].entry, len(items)-1)}
	for _, i := range items {
		b.leaves = append(b.leaves, i.leaf)
	}
	return b
}

// finish tells everybody who waits for an item of the batch that it stands from this index on, or why not.
func (b *batch) finish(first int64, err error) {
	for n, i := range b.items {
		o := outcome{index: first + int64(n)}
		if err != nil {
			o = outcome{index: -1, err: err}
		}
		i.finish(o)
	}
}
