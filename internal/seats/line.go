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
	if raw, ok := parseUUID(h.pod); ok {
		to = base64.RawURLEncoding.AppendEncode(to, raw[:])
	} else {
		to = append(append(to, textUID), h.pod...)
	}
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
	var numbers [4]int64
	for i, most := range [...]int64{maxGrants - 1, maxAmounts - 1, 35, math.MaxInt64 >> 16} {
		if numbers[i], err = number(fields[1+i], most); err != nil {
			return holder{}, err
		}
	}
	h.grant, h.amount, h.since = int32(numbers[0]), int32(numbers[1]), numbers[3]
	flags := numbers[2]
	h.kind, h.confinement = uint8(flags%3), confinement(flags/3%3)
	h.released, h.wiped = flags/9%2 == 1, flags/18 == 1
	if fields[5] != "" {
		n, err := number(fields[5], maxNodes-1)
		if err != nil {
			return holder{}, err
		}
		h.node = int32(n)
	}
	for i, to := range [...]*int64{&h.until, &h.surgeUntil, &h.meteredFrom} {
		if fields[6+i] == "" {
			continue
		}
		n, err := number(fields[6+i], math.MaxInt64>>16)
		if err != nil {
			return holder{}, err
		}
		*to = h.since + n
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

// storable reports whether a line can hold a UID: a UUID in 22 bytes, and other short UIDs, which the API server does not
// make, as they are.
func storable(pod types.UID) bool {
	_, uuid := parseUUID(pod)
	return uuid || plain(pod)
}

func plain(pod types.UID) bool {
	return pod != "" && len(pod) <= maxUID && !strings.ContainsFunc(string(pod), notPlain)
}

// maxUID bounds UIDs that are not UUIDs.
const maxUID = 21

// parseUUID reads a UUID as the API server writes it.
func parseUUID(pod types.UID) (raw [16]byte, ok bool) {
	if len(pod) != 36 || pod[8] != '-' || pod[13] != '-' || pod[18] != '-' || pod[23] != '-' {
		return raw, false
	}
	for i, at := range [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		high, low := hexDigit(pod[at]), hexDigit(pod[at+1])
		if high < 0 || low < 0 {
			return raw, false
		}
		raw[i] = byte(high<<4 | low)
	}
	return raw, true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func notPlain(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '"' || r == '\\' }

func decodeUID(text string) (types.UID, error) {
	if pod, ok := strings.CutPrefix(text, string(textUID)); ok {
		if !plain(types.UID(pod)) {
			return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
		}
		return types.UID(pod), nil
	}
	var raw [18]byte
	if len(text) != 22 {
		return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
	}
	if n, err := strict.Decode(raw[:], []byte(text)); err != nil || n != 16 {
		return "", fmt.Errorf("%w: %q is no UID", errMalformed, text)
	}
	return formatUUID([16]byte(raw[:16])), nil
}

var strict = base64.RawURLEncoding.Strict()

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
