package seats

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// maxLine is how long a holder's line may be, as the ModelSeats kind bounds it.
const maxLine = 64

// A line has these fields, with commas between, and those that are empty left out at the end:
//
//	pod          the UID's 16 bytes in base64url, or '~' and the UID itself
//	grant        its place in spec.grants
//	amount       its place in spec.amounts
//	kind         kind + 3 * confinement + 9 if released + 18 if wiped
//	since        seconds since 1970
//	node         its place in spec.nodes; empty before the pod is bound
//	until        seconds after since, and so the two that follow
//	surgeUntil
//	meteredFrom
//
// Numbers are of base 36. The longest line there can be has 62 bytes, until the year 2453.
const (
	base       = 36
	lineFields = 9
	textUID    = '~'
)

var errMalformed = errors.New("malformed")

// appendLine writes a holder; places are those in the encoded tables.
func appendLine(to []byte, h *holder, grant, amount, node int32) []byte {
	uid, _ := encodeUID(h.pod)
	to = append(to, uid...)
	flags := int64(h.kind) + 3*int64(h.confinement)
	if h.released {
		flags += 9
	}
	if h.wiped {
		flags += 18
	}
	for _, n := range []int64{int64(grant), int64(amount), flags, h.since} {
		to = strconv.AppendInt(append(to, ','), n, base)
	}
	rest := [...]int64{int64(node), h.until - h.since, h.surgeUntil - h.since, h.meteredFrom - h.since}
	given := [...]bool{node >= 0, h.until != 0, h.surgeUntil != 0, h.meteredFrom != 0}
	last := len(given)
	for last > 0 && !given[last-1] {
		last--
	}
	for i := range last {
		to = append(to, ',')
		if given[i] {
			to = strconv.AppendInt(to, rest[i], base)
		}
	}
	return to
}

// parseLine reads what appendLine wrote. Places may be beyond the tables.
func parseLine(line string) (holder, error) {
	if len(line) > maxLine {
		return holder{}, fmt.Errorf("%w: %d bytes are more than %d", errMalformed, len(line), maxLine)
	}
	var fields [lineFields]string
	n, rest, more := 0, line, true
	for ; more; n++ {
		if n == lineFields {
			return holder{}, fmt.Errorf("%w: more than %d fields", errMalformed, lineFields)
		}
		fields[n], rest, more = strings.Cut(rest, ",")
	}
	if n < 5 {
		return holder{}, fmt.Errorf("%w: %d fields are too few", errMalformed, n)
	}
	pod, err := decodeUID(fields[0])
	if err != nil {
		return holder{}, err
	}
	h := holder{pod: pod, node: -1}
	var flags int64
	for _, f := range []struct {
		text string
		max  int64
		to   func(int64)
	}{
		{fields[1], maxGrants - 1, func(n int64) { h.grant = int32(n) }},
		{fields[2], maxAmounts - 1, func(n int64) { h.amount = int32(n) }},
		{fields[3], 35, func(n int64) { flags = n }},
		{fields[4], math.MaxInt64 >> 16, func(n int64) { h.since = n }},
	} {
		n, err := number(f.text, f.max)
		if err != nil {
			return holder{}, err
		}
		f.to(n)
	}
	h.kind, h.confinement = uint8(flags%3), confinement(flags/3%3)
	h.released, h.wiped = flags/9%2 == 1, flags/18 == 1
	if fields[5] != "" {
		n, err := number(fields[5], maxNodes-1)
		if err != nil {
			return holder{}, err
		}
		h.node = int32(n)
	}
	for _, f := range []struct {
		text string
		to   *int64
	}{{fields[6], &h.until}, {fields[7], &h.surgeUntil}, {fields[8], &h.meteredFrom}} {
		if f.text == "" {
			continue
		}
		n, err := number(f.text, math.MaxInt64>>16)
		if err != nil {
			return holder{}, err
		}
		*f.to = h.since + n
	}
	return h, nil
}

func number(text string, most int64) (int64, error) {
	n, err := strconv.ParseUint(text, base, 63)
	if err != nil || int64(n) > most {
		return 0, fmt.Errorf("%w: %q is no number from 0 to %s", errMalformed, text, strconv.FormatInt(most, base))
	}
	return int64(n), nil
}

// encodeUID writes a UUID in 22 bytes, and other short UIDs as they are; false for what a line cannot hold.
func encodeUID(pod types.UID) (string, bool) {
	if len(pod) == 36 && pod[8] == '-' && pod[13] == '-' && pod[18] == '-' && pod[23] == '-' {
		var hexed [32]byte
		copy(hexed[0:], pod[0:8])
		copy(hexed[8:], pod[9:13])
		copy(hexed[12:], pod[14:18])
		copy(hexed[16:], pod[19:23])
		copy(hexed[20:], pod[24:36])
		var raw [16]byte
		if _, err := hex.Decode(raw[:], hexed[:]); err == nil && formatUUID(raw) == pod {
			return base64.RawURLEncoding.EncodeToString(raw[:]), true
		}
	}
	if pod == "" || len(pod) > maxUID || strings.ContainsFunc(string(pod), notPlain) {
		return "", false
	}
	return string(textUID) + string(pod), true
}

func notPlain(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '"' || r == '\\' }

func decodeUID(text string) (types.UID, error) {
	if plain, ok := strings.CutPrefix(text, string(textUID)); ok {
		if encoded, ok := encodeUID(types.UID(plain)); !ok || encoded != text {
			return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
		}
		return types.UID(plain), nil
	}
	var raw [16]byte
	if len(text) != 22 {
		return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(text)); err != nil || n != 16 {
		return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
	}
	return formatUUID(raw), nil
}

func formatUUID(raw [16]byte) types.UID {
	var out [36]byte
	hex.Encode(out[0:8], raw[0:4])
	hex.Encode(out[9:13], raw[4:6])
	hex.Encode(out[14:18], raw[6:8])
	hex.Encode(out[19:23], raw[8:10])
	hex.Encode(out[24:36], raw[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return types.UID(out[:])
}
