package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"filippo.io/age"
)

// MaxMaterialBytes bounds one key: an age identity has about a hundred bytes, and a key may be several.
const MaxMaterialBytes = 16 << 10

// redacted is what a Material prints.
const redacted = "[REDACTED]"

// What Parse says. The parser's own errors are not passed on, since they may quote the input.
var (
	errEmpty   = errors.New("is empty")
	errInvalid = errors.New("holds no age identity: a line must begin with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1")
	errTooLong = fmt.Errorf("is longer than %d bytes", MaxMaterialBytes)
)

// Material is secret key material: age identities, one a line, with a newline at the end. The zero Material is empty.
// Copies share the bytes.
//
// It prints itself as [REDACTED], whatever it is printed with. The bytes stand behind a function because fmt, and whoever
// else walks values by reflection, prints the unexported fields of a struct that holds a Material without asking its
// methods.
type Material struct {
	open func() []byte
}

// Parse takes a key as an administrator wrote it, age's identity file format, and returns its identities alone: without
// comments, blank lines and stray spaces. X25519 and hybrid post-quantum identities are accepted. It takes no hold of
// text, which the caller may wipe. The error says what is wrong without a byte of the text.
func Parse(text []byte) (Material, error) {
	if len(text) > MaxMaterialBytes {
		return Material{}, errTooLong
	}
	clean := make([]byte, 0, len(text)+1)
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		clean = append(append(clean, line...), '\n')
	}
	if len(clean) == 0 {
		return Material{}, errEmpty
	}
	if _, err := age.ParseIdentities(bytes.NewReader(clean)); err != nil {
		clear(clean)
		return Material{}, errInvalid
	}
	return wrap(clean), nil
}

// Join puts several Materials into one, in the order given. The parts stay as they are.
func Join(parts ...Material) Material {
	var size int
	for _, part := range parts {
		size += len(part.Bytes())
	}
	// Exactly as large as needed: growing would leave copies behind that nobody wipes.
	joined := make([]byte, 0, size)
	for _, part := range parts {
		joined = append(joined, part.Bytes()...)
	}
	return wrap(joined)
}

func wrap(secret []byte) Material {
	return Material{open: func() []byte { return secret }}
}

// Bytes is the secret itself, not a copy. After Wipe it holds zeros.
func (m Material) Bytes() []byte {
	if m.open == nil {
		return nil
	}
	return m.open()
}

// Wipe overwrites the secret, in every copy of the Material. It is a best effort: the runtime, the API client and the
// identity parser may have made copies of their own.
func (m Material) Wipe() { clear(m.Bytes()) }

// String returns [REDACTED].
func (Material) String() string { return redacted }

// GoString returns [REDACTED].
func (Material) GoString() string { return redacted }

// Format writes [REDACTED], whatever the verb.
func (Material) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON returns "[REDACTED]".
func (Material) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns [REDACTED].
func (Material) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns [REDACTED], for log/slog.
func (Material) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalLog returns [REDACTED], for logr.
func (Material) MarshalLog() any { return redacted }

// Identities parses the secret, for whoever opens a model with it.
func (m Material) Identities() ([]age.Identity, error) {
	ids, err := age.ParseIdentities(strings.NewReader(string(m.Bytes())))
	if err != nil {
		return nil, errInvalid
	}
	return ids, nil
}
