package audit

import (
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// MaxRecordEntries is the most entries that a record has. The schema says the same.
	MaxRecordEntries = 256

	// maxRecordBytes is the most bytes that a record's entries have in etcd, well below its bound of 1.5 MiB a request.
	maxRecordBytes = 768 << 10

	nameDigits = 20
)

// RecordName is the name of the record whose first entry has this index.
func RecordName(firstIndex int64) string { return fmt.Sprintf("%0*d", nameDigits, firstIndex) }

// RecordIndex is the index of the first entry of the record of this name.
func RecordIndex(name string) (int64, error) {
	index, err := strconv.ParseInt(name, 10, 64)
	if err != nil || len(name) != nameDigits || index < 0 {
		return 0, fmt.Errorf("%q is not the name of an audit record", name)
	}
	return index, nil
}

// recordEnd is the index after a record's last entry.
func recordEnd(record *v1alpha1.ModelAuditRecord) int64 {
	return record.Spec.FirstIndex + int64(len(record.Spec.Entries))
}

func newRecord(firstIndex int64, summary string, leaves []string) *v1alpha1.ModelAuditRecord {
	return &v1alpha1.ModelAuditRecord{
		ObjectMeta: metav1.ObjectMeta{Name: RecordName(firstIndex)},
		Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: firstIndex, Summary: summary, Entries: leaves},
	}
}

// storedBytes is how many bytes a leaf takes in etcd, where it is a JSON string in the JSON of its record. The API
// server escapes quotes and backslashes, and <, > and & sixfold, as encoding/json does.
func storedBytes(leaf string) int {
	n := len(`"",`) + len(leaf)
	for i := range len(leaf) {
		switch leaf[i] {
		case '"', '\\':
			n++
		case '<', '>', '&':
			n += 5
		}
	}
	return n
}
