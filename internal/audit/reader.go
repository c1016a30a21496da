package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// recordsPage is how many records are read at once: at most 48 MiB, and usually far less.
	recordsPage = 50
	// namesPage is how many records' names are read at once.
	namesPage = 1000
)

// Located is an entry with its place in the log.
type Located struct {
	// Index is the entry's index in the log, counted from 0.
	Index int64
	// Leaf is the entry's canonical JSON as it was written.
	Leaf string
	// Entry is what it says.
	Entry Entry
}

// Entries goes through the entries from an index on, in order, reading a page at a time. It goes on after missing
// entries, which show in the indexes, and stops at the first error. reader must not be a cache.
func Entries(ctx context.Context, reader client.Reader, from int64) iter.Seq2[Located, error] {
	return func(yield func(Located, error) bool) {
		for record, err := range Records(ctx, reader, from) {
			if err != nil {
				yield(Located{}, err)
				return
			}
			for n, leaf := range record.Spec.Entries {
				index := record.Spec.FirstIndex + int64(n)
				if index < from {
					continue
				}
				entry, err := Parse(leaf)
				if err != nil {
					yield(Located{Index: index, Leaf: leaf}, fmt.Errorf("entry %d: %w", index, err))
					return
				}
				if !yield(Located{Index: index, Leaf: leaf, Entry: entry}, nil) {
					return
				}
			}
		}
	}
}

// Records goes through the records that may hold entries from an index on, by name, and stops at the first error. It goes on
// after missing ones: a Checker finds those. reader must not be a cache. Memory is bounded by a page of records.
func Records(ctx context.Context, reader client.Reader, from int64) iter.Seq2[*v1alpha1.ModelAuditRecord, error] {
	if from <= 0 {
		return allRecords(ctx, reader)
	}
	return func(yield func(*v1alpha1.ModelAuditRecord, error) bool) {
		get := func(name string) bool {
			record, err := getRecord(ctx, reader, name)
			if apierrors.IsNotFound(err) {
				return true // removed since its name was read
			}
			return yield(record, err) && err == nil
		}
		before := "" // the last record that begins before the index: the index may be in it
		for name, err := range recordNames(ctx, reader) {
			if err != nil {
				yield(nil, err)
				return
			}
			if name <= RecordName(from) {
				before = name
				continue
			}
			if before != "" && !get(before) {
				return
			}
			before = ""
			if !get(name) {
				return
			}
		}
		if before != "" {
			get(before)
		}
	}
}

func allRecords(ctx context.Context, reader client.Reader) iter.Seq2[*v1alpha1.ModelAuditRecord, error] {
	return func(yield func(*v1alpha1.ModelAuditRecord, error) bool) {
		page := &v1alpha1.ModelAuditRecordList{}
		for err := range pages(ctx, reader, page, recordsPage) {
			if err != nil {
				yield(nil, err)
				return
			}
			for n := range page.Items {
				record := &page.Items[n]
				if err := wellFormed(record); err != nil {
					yield(nil, err)
					return
				}
				if !yield(record, nil) {
					return
				}
			}
		}
	}
}

func recordNames(ctx context.Context, reader client.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		page := NewNameList()
		for err := range pages(ctx, reader, page, namesPage) {
			if err != nil {
				yield("", err)
				return
			}
			for n := range page.Items {
				if !yield(page.Items[n].Name, nil) {
					return
				}
			}
		}
	}
}

// NewNameList returns an empty list of records without their contents, to list or watch them by name.
func NewNameList() *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelAuditRecordList"))
	return list
}

// Count returns how many records there are, and the resource version at which there were as many, without reading
// them. The count is -1 if the API server does not tell. reader must not be a cache.
func Count(ctx context.Context, reader client.Reader) (count int64, resourceVersion string, err error) {
	list := NewNameList()
	if err := reader.List(ctx, list, client.Limit(1)); err != nil {
		return -1, "", fmt.Errorf("count audit records: %w", err)
	}
	count = int64(len(list.Items))
	switch remaining := list.GetRemainingItemCount(); {
	case remaining != nil:
		count += *remaining
	case list.GetContinue() != "":
		count = -1
	}
	return count, list.GetResourceVersion(), nil
}

// pages reads a list page by page. When the API server has forgotten the state of the first page it goes on with the
// present one, at the same name: records are only ever added at the end.
func pages(ctx context.Context, reader client.Reader, list client.ObjectList, size int64) iter.Seq[error] {
	return func(yield func(error) bool) {
		next := ""
		for {
			list.SetContinue("")
			list.SetResourceVersion("")
			err := reader.List(ctx, list, client.Limit(size), client.Continue(next))
			if status := apierrors.APIStatus(nil); errors.As(err, &status) && apierrors.IsResourceExpired(err) &&
				next != "" && status.Status().Continue != "" {
				next = status.Status().Continue
				continue
			}
			if err != nil {
				yield(fmt.Errorf("list audit records: %w", err))
				return
			}
			next = list.GetContinue()
			if !yield(nil) || next == "" {
				return
			}
		}
	}
}

// Walk goes through the records from one that begins at this index, without looking at those before, until there is
// none that begins where the last one ended: this is the end of the log, or a gap. reader must not be a cache.
func Walk(ctx context.Context, reader client.Reader, from int64) iter.Seq2[*v1alpha1.ModelAuditRecord, error] {
	return func(yield func(*v1alpha1.ModelAuditRecord, error) bool) {
		for index := from; ; {
			record, err := getRecord(ctx, reader, RecordName(index))
			if apierrors.IsNotFound(err) {
				return
			}
			if !yield(record, err) || err != nil {
				return
			}
			index = recordEnd(record)
		}
	}
}

// End finds the index at which the log goes on: it starts at the record that the head of the log names, and walks
// forward. Without a head, or if that record is gone, it goes through the names of all records first. The end is never
// within a record that is there, so that a wrong head cannot make writers overlap, and never before the size that the head
// knows, so that nothing takes the place of entries that were removed. reader must not be a cache.
func End(ctx context.Context, reader client.Reader) (int64, error) {
	head := &v1alpha1.ModelAuditLog{}
	err := reader.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, head)
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("read the head of the audit log: %w", err)
	}
	end, err := endOfRecords(ctx, reader, head.Status.LastRecord)
	return max(end, ptr.Deref(head.Status.Size, 0)), err
}

// endOfRecords is the index after the last record, of which one is known that is perhaps not far from it.
func endOfRecords(ctx context.Context, reader client.Reader, known string) (int64, error) {
	if index, err := RecordIndex(known); err == nil {
		if end, err := walkFrom(ctx, reader, index); err != nil || end > index {
			return end, err
		}
	}
	last := ""
	for name, err := range recordNames(ctx, reader) {
		if err != nil {
			return 0, err
		}
		last = name
	}
	if last == "" {
		return 0, nil
	}
	index, err := RecordIndex(last)
	if err != nil {
		return 0, err
	}
	return walkFrom(ctx, reader, index)
}

func walkFrom(ctx context.Context, reader client.Reader, index int64) (int64, error) {
	for record, err := range Walk(ctx, reader, index) {
		if err != nil {
			return 0, err
		}
		index = recordEnd(record)
	}
	return index, nil
}

func getRecord(ctx context.Context, reader client.Reader, name string) (*v1alpha1.ModelAuditRecord, error) {
	record := &v1alpha1.ModelAuditRecord{}
	if err := reader.Get(ctx, client.ObjectKey{Name: name}, record); err != nil {
		return nil, fmt.Errorf("read audit record %s: %w", name, err)
	}
	return record, wellFormed(record)
}

// wellFormed holds of every record that the API server took: anything else was not written through it.
func wellFormed(record *v1alpha1.ModelAuditRecord) error {
	if record.Name != RecordName(record.Spec.FirstIndex) || len(record.Spec.Entries) == 0 {
		return fmt.Errorf("%w: record %q says that it begins at %d and has %d entries", ErrMalformed, record.Name,
			record.Spec.FirstIndex, len(record.Spec.Entries))
	}
	return nil
}
