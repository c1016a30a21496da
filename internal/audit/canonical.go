package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// Canonical returns the entry's canonical JSON (RFC 8785): the bytes of its leaf, at most MaxLeafBytes of valid UTF-8.
// Strings beyond their bounds are shortened. It fails for a time outside the years 0 to 9999.
func (e Entry) Canonical() ([]byte, error) {
	plain, err := json.Marshal(e.bounded())
	if err != nil {
		return nil, fmt.Errorf("encode audit entry: %w", err)
	}
	leaf, err := jcs.Transform(plain)
	if err != nil {
		return nil, fmt.Errorf("canonicalise audit entry: %w", err)
	}
	if len(leaf) > MaxLeafBytes {
		return nil, fmt.Errorf("audit entry has %d bytes, more than %d", len(leaf), MaxLeafBytes)
	}
	return leaf, nil
}

// ErrMalformed means that something in the log is not an entry of it.
var ErrMalformed = errors.New("malformed audit entry")

// Parse reads an entry back from its leaf. Fields that this version does not know are ignored. The error is
// ErrMalformed.
func Parse(leaf string) (Entry, error) {
	if len(leaf) > MaxLeafBytes || !utf8.ValidString(leaf) {
		return Entry{}, fmt.Errorf("%w: not UTF-8 of at most %d bytes", ErrMalformed, MaxLeafBytes)
	}
	var e Entry
	if err := json.Unmarshal([]byte(leaf), &e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if e.Version < 1 || e.Type == "" {
		return Entry{}, fmt.Errorf("%w: no version or no type", ErrMalformed)
	}
	return e, nil
}
