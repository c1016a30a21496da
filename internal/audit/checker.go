package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// maxFaults bounds how many faults a Checker keeps.
const maxFaults = 8

// Fault is a place where the records do not form a log.
type Fault struct {
	// From is the first index that is missing, or is there twice.
	From int64
	// To is the index after the last.
	To int64
	// Overlap says that two records hold these indexes; otherwise none does.
	Overlap bool
}

// String says what is wrong, for people.
func (f Fault) String() string {
	verb := "missing"
	if f.Overlap {
		verb = "there twice"
	}
	if f.To-f.From == 1 {
		return fmt.Sprintf("entry %d is %s", f.From, verb)
	}
	return fmt.Sprintf("entries %d to %d are %s", f.From, f.To-1, verb)
}

// Checker looks for gaps and overlaps in records that are added in the order of their names. The zero value expects
// the log's first record; memory is bounded whatever is added.
type Checker struct {
	// Size is the index after the last entry.
	Size int64
	// Records is how many records were added.
	Records int64
	// LastRecord is the name of the last record that was added.
	LastRecord string
	// LastTime is the creation time of that record, by the API server's clock.
	LastTime time.Time
	// Mark is the latest creation time of the records since the one that resets the time mark, that one included; or of all.
	Mark time.Time
	// Credible says whether a creation time can be right. The mark takes no other, be it by a reset. Optional: all are.
	Credible func(time.Time) bool
	// Faults are the first 8 gaps and overlaps, and FaultCount is how many there are.
	Faults     []Fault
	FaultCount int64
}

// Add takes the next record.
func (c *Checker) Add(record *v1alpha1.ModelAuditRecord) {
	first, end := record.Spec.FirstIndex, recordEnd(record)
	switch {
	case first > c.Size:
		c.fault(Fault{From: c.Size, To: first})
	case first < c.Size:
		c.fault(Fault{From: first, To: min(c.Size, end), Overlap: true})
	}
	c.Size = max(c.Size, end)
	c.Records++
	c.LastRecord = record.Name
	c.LastTime = record.CreationTimestamp.Time
	if (c.LastTime.After(c.Mark) || resetsMark(record)) && (c.Credible == nil || c.Credible(c.LastTime)) {
		c.Mark = c.LastTime
	}
}

// resetsMark says whether a record has an entry of type TimeMarkReset. Canonical JSON has no blanks, and quotes within
// strings are escaped.
func resetsMark(record *v1alpha1.ModelAuditRecord) bool {
	return slices.ContainsFunc(record.Spec.Entries, func(leaf string) bool {
		return strings.Contains(leaf, `"type":"`+string(TimeMarkReset)+`"`)
	})
}

// Expect says, after the last record, how many entries the log is known to have had: if it has fewer now, those are
// missing.
func (c *Checker) Expect(size int64) {
	if size > c.Size {
		c.fault(Fault{From: c.Size, To: size})
		c.Size = size
	}
}

func (c *Checker) fault(f Fault) {
	c.FaultCount++
	if len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, f)
	}
}
